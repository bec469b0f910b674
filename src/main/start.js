/**
 * What `./rackyard` hands over to. The compile cache is enabled before the first TypeScript module
 * is loaded: static imports would come before it, and what takes types away needs 50 ms to load.
 * That is why this file and the one it imports are the tree's only JavaScript.
 */
import { keepCompiled } from "./compile-cache.js";

keepCompiled();
await import("./rackyard.ts");

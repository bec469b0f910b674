import { expect, test } from "vitest";
import { parseGitRoute } from "./smart-http.ts";

const refs = "info/refs?service=git-upload-pack";

test("smart HTTP's three requests are found, for projects in groups too", () => {
  expect(parseGitRoute("GET", `/git/app/${refs}`, "/git")).toEqual({
    project: "app",
    service: "git-upload-pack",
    kind: "info",
  });
  expect(parseGitRoute("POST", "/git/a/b.git/git-receive-pack", "/git")).toEqual({
    project: "a/b",
    service: "git-receive-pack",
    kind: "rpc",
  });
  expect(parseGitRoute("POST", "/git/a/b/git-upload-pack", "/git")).toMatchObject({ kind: "rpc" });
});

test.each([
  ["GET", `/git/${refs}`],
  ["GET", `/other/app/${refs}`],
  ["GET", "/git/app/info/refs"],
  ["GET", "/git/app/info/refs?service=git-upload-archive"],
  ["GET", "/git/app/info/refs?service=upload-pack"],
  ["POST", `/git/app/${refs}`],
  ["GET", "/git/app/git-upload-pack"],
  ["GET", "/git/app/HEAD"],
  ["GET", "/git/app/objects/info/packs"],
  ["POST", "/git/app/git-upload-archive"],
  ["GET", `/git/../app/${refs}`],
  ["GET", `/git/%2e%2e/app/${refs}`],
  ["GET", `http://host/git/app/${refs}`],
])("%s %s is none of them", (method, url) => {
  expect(parseGitRoute(method, url, "/git")).toBeUndefined();
});

/**
 * Where CI nodes come from, as a port (ci.md N-1, N-9): the pool asks for nodes and looks at what
 * is there; it never waits for an answer. What a provider shows is a level, not news: a word that
 * was lost is found by the next look. The first one is a TE host (te-host-provider.ts).
 */
export type ProvidedNode =
  | { readonly state: "building" | "deleting" }
  | { readonly state: "ready"; readonly address: string; readonly hostKey: string }
  | {
      readonly state: "failed";
      readonly reason: string;
      /** By the provider's own new beginning: no launch failed. */
      readonly restart: boolean;
    };

export type NodeOrder = {
  readonly id: string;
  readonly label: string;
  /** Digest, as the provider has it. */
  readonly image: string;
  readonly memoryMiB: number;
  readonly cpus: number;
  readonly diskGiB: number;
  readonly authorizedKey: string;
};

export type ProviderImage = {
  readonly recipe: string;
  readonly digest: string;
  readonly sizeBytes: number;
  readonly builtAt: string;
};

export type NodeProvider = {
  /** All nodes as it has them, those just ordered too; undefined while it is away. */
  list(): ReadonlyMap<string, ProvidedNode> | undefined;
  /** For so long it has been away; 0 while it is there. */
  awayMs(): number;
  /** Asked twice it makes one node. */
  create(order: NodeOrder): void;
  /** Content when it is gone; it leaves the list when nothing of it is there. */
  delete(id: string): void;
  /** Told after each change of the list. */
  watch(onChange: () => void): void;
};

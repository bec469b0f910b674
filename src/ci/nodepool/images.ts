/**
 * The pool's images: recipes as they lie on disk, and which host has, builds or could not build
 * which. Builds are asked of the hosts; nothing of it is recorded, since a host says it all anew
 * when it says hello. When an image is wanted plan.ts decides.
 */
import { describeError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import { backoffMs } from "../../base/retry.ts";
import type { Config } from "../../model/config.ts";
import type { ToHost } from "../../model/session.ts";
import type { FromHost } from "../../session/session-port.ts";
import { readRecipe } from "./recipe.ts";
import type { Recipe } from "./recipe.ts";
import type { HostState } from "./views.ts";

type NodesConfig = Config["nodes"];

export type ImagesOptions = {
  readonly log: Log;
  readonly hosts: ReadonlyMap<string, HostState>;
  /** Folder of a recipe as the configuration names it. */
  readonly recipeDirectory: (recipe: string) => string;
  readonly send: (hostId: string, message: ToHost) => boolean;
  /** A pass of the pool after the pause; gives when that is, as wall time. */
  readonly passAfter: (delayMs: number) => number;
  readonly onChange: () => void;
};

export function openImages({ log, hosts, ...options }: ImagesOptions) {
  const recipes = new Map<string, Recipe>();

  function failed(host: HostState, image: string, detail: string): void {
    host.building.delete(image);
    const count = (host.imageFailures.get(image)?.count ?? 0) + 1;
    const retryAtMs = options.passAfter(backoffMs(count));
    host.imageFailures.set(image, { count, retryAtMs, detail });
    log.warn({ image, detail: describeError(detail), count }, "image build failed");
    options.onChange();
  }

  return {
    /** Image → recipe. */
    recipes: recipes as ReadonlyMap<string, Recipe>,
    /**
     * Reads them again. A mended one is built at once, and has all its tries. Throws `bad-config`
     * where one cannot be read: then nothing is changed.
     */
    async read(images: NodesConfig["images"]): Promise<void> {
      const next = new Map<string, Recipe>();
      for (const [image, { recipe }] of Object.entries(images)) {
        next.set(image, await readRecipe(image, options.recipeDirectory(recipe)));
      }
      for (const [image, { digest }] of next) {
        if (recipes.get(image)?.digest === digest) continue;
        for (const host of hosts.values()) host.imageFailures.delete(image);
      }
      recipes.clear();
      for (const [image, recipe] of next) recipes.set(image, recipe);
    },
    /** Asks a host to build one, as large as the largest disk of the labels that use it. */
    build(provider: string, image: string, labels: NodesConfig["labels"]): void {
      const host = hosts.get(provider);
      const recipe = recipes.get(image);
      if (!host || !recipe) return;
      const using = Object.values(labels).filter((label) => label.image === image);
      const sent = options.send(host.hostId, {
        kind: "image-build",
        name: image,
        recipe: recipe.digest,
        diskGiB: Math.max(...using.map(({ diskGiB }) => diskGiB)),
        files: [...recipe.files],
      });
      // A host that is away is asked when it has come back: by the pass of its connection.
      if (!sent) return;
      host.building.set(image, "asked");
      log.info({ host: provider, image, recipe: recipe.digest }, "image build asked");
    },
    /** What a host says of its images; false: the message is about something else. */
    hear(host: HostState | undefined, message: FromHost): boolean {
      switch (message.kind) {
        case "image-progress":
          host?.building.set(message.name, message.step);
          return true;
        case "image-ready":
          host?.building.delete(message.report.name);
          host?.imageFailures.delete(message.report.name);
          host?.images.set(message.report.name, message.report);
          log.info({ image: message.report.name, digest: message.report.digest }, "image ready");
          return true;
        case "image-failed":
          if (host) failed(host, message.name, message.detail);
          return true;
        default:
          return false;
      }
    },
    /** Why an image is given up for now; undefined while there is hope, or a try under way. */
    failure(image: string): string | undefined {
      const broken = [...hosts.values()]
        .filter((host) => !host.building.has(image))
        .map((host) => host.imageFailures.get(image))
        .find((failure) => failure && failure.count >= limits.nodeLaunchAttempts);
      return broken && `image ${image}: ${broken.detail}`;
    },
  };
}

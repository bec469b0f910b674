/**
 * A scope owns what was started in it: background tasks, children, handles. Closing it aborts
 * its signal, waits for its tasks and disposes what it holds, last first: stopping is starting
 * read backwards. A task that fails unexpectedly is reported to `onCrash`, never swallowed.
 */

type Close = () => void | Promise<void>;

export type Scope = AsyncDisposable & {
  /** Aborted when the scope closes. */
  readonly signal: AbortSignal;
  readonly closed: boolean;
  /** Closes `handle` with the scope, in reverse order of opening; returns it. */
  own<T extends AsyncDisposable | Disposable>(handle: T): T;
  defer(close: Close): void;
  /** Runs a task that lives as long as the scope. */
  spawn(name: string, task: (signal: AbortSignal) => Promise<void>): void;
  /** A scope inside this one. */
  child(name: string): Scope;
  close(): Promise<void>;
};

export function openScope(
  onCrash: (name: string, error: unknown) => void,
  parent?: AbortSignal,
): Scope {
  const controller = new AbortController();
  const closers: Close[] = [];
  const tasks = new Set<Promise<void>>();
  let closing: Promise<void> | undefined;
  const stop = (): void => controller.abort(parent?.reason);
  if (parent?.aborted) stop();
  else parent?.addEventListener("abort", stop, { once: true });

  async function closeAll(): Promise<void> {
    controller.abort(new DOMException("scope closed", "AbortError"));
    parent?.removeEventListener("abort", stop);
    const errors: unknown[] = [];
    await Promise.allSettled(tasks);
    for (let close = closers.pop(); close; close = closers.pop()) {
      try {
        await close();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw new AggregateError(errors, "closing failed");
  }

  const scope: Scope = {
    signal: controller.signal,
    get closed() {
      return controller.signal.aborted;
    },
    own(handle) {
      scope.defer(async () => {
        if (Symbol.asyncDispose in handle) await handle[Symbol.asyncDispose]();
        else handle[Symbol.dispose]();
      });
      return handle;
    },
    defer(close) {
      closers.push(close);
    },
    spawn(name, task) {
      const running = task(controller.signal)
        .catch((error: unknown) => {
          if (!controller.signal.aborted) onCrash(name, error);
        })
        .finally(() => tasks.delete(running));
      tasks.add(running);
    },
    child(name) {
      const inner = openScope((task, error) => onCrash(`${name}/${task}`, error), scope.signal);
      return scope.own(inner);
    },
    close: () => (closing ??= closeAll()),
    [Symbol.asyncDispose]: () => scope.close(),
  };
  return scope;
}

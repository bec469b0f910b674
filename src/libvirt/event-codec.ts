/**
 * Lines of `virsh event --all --loop` and `virsh qemu-monitor-event --loop` (H-3.5, H-4.5).
 * Lifecycle says that a machine stopped; only QEMU's own SHUTDOWN says whether its guest asked
 * for a reset or for power off. Names come as libvirt prints them. Pure.
 */

export type LibvirtEvent = {
  readonly name: string;
  readonly what:
    | "started"
    | "stopped"
    | "crashed"
    | "guest-reset"
    | "guest-shutdown"
    | "host-reset"
    | "host-killed";
  readonly detail: string;
};

const LIFECYCLE = /event 'lifecycle' for domain '(.*)': (\S+) ?(.*)$/;
const MONITOR = /event (\S+) (?:at [\d.]+ )?for domain '(.*)': (\{.*\}|\(null\))$/;

/** The event of a line of `virsh event`; undefined for those that change no power. */
export function parseLifecycle(line: string): LibvirtEvent | undefined {
  const [, name, what, detail] = LIFECYCLE.exec(line) ?? [];
  if (name === undefined || what === undefined) return undefined;
  const text = detail?.trim() ?? "";
  if (what === "Started") return { name, what: "started", detail: text };
  if (what === "Crashed") return { name, what: "crashed", detail: text };
  if (what === "Stopped") {
    // Failed: QEMU itself went away without libvirt's doing. A guest's panic is Crashed.
    const how = { Failed: "host-killed", Crashed: "crashed" } as const;
    return { name, what: how[text as keyof typeof how] ?? "stopped", detail: text };
  }
  return undefined;
}

/** The event of a line of `virsh qemu-monitor-event`: SHUTDOWN with its reason, or none. */
export function parseMonitor(line: string): LibvirtEvent | undefined {
  const [, event, name, json] = MONITOR.exec(line) ?? [];
  if (event !== "SHUTDOWN" || name === undefined || json === undefined) return undefined;
  const reason = /"reason":\s*"([a-z-]+)"/.exec(json)?.[1] ?? "unknown";
  const what = reasons[reason];
  return what ? { name, what, detail: reason } : undefined;
}

/** QEMU's ShutdownCause, as far as it tells more than libvirt's lifecycle. */
const reasons: Readonly<Record<string, LibvirtEvent["what"]>> = {
  "guest-reset": "guest-reset",
  "subsystem-reset": "guest-reset",
  "host-qmp-system-reset": "host-reset",
  "guest-shutdown": "guest-shutdown",
  "guest-panic": "crashed",
  "host-signal": "host-killed",
  "host-error": "host-killed",
};

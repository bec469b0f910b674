/**
 * Every limit of Rackyard, with its reason: the one home for numbers that bound a loop, a queue,
 * a message or a wait. Units are in the names. Nothing waits, reads or keeps without a bound.
 */

export const limits = {
  // --- processes and files
  /** Grace between SIGTERM and SIGKILL of a child we end. */
  childGraceMs: 5_000,
  /** A helper program that should answer at once (ip, nft, ovs-vsctl, qemu-img info). */
  commandMs: 30_000,
  /** What one helper program may print before it is ended: nothing we run says more. */
  commandOutputBytes: 8 * 1024 * 1024,
  /** Longest line kept of a child's output; the rest of the line is dropped, and said so. */
  lineBytes: 16 * 1024,
  /** Log files: rotated at this size, so many kept (surface.md §3). */
  logFileBytes: 64 * 1024 * 1024,
  logFiles: 4,
  /** Unix socket paths: the kernel's limit is 108 bytes with the final NUL. */
  socketPathBytes: 107,

  // --- waiting
  /** Poll interval of conditions that have no event. */
  pollMs: 100,
  /** First and last pause between tries of something that failed. */
  backoffFirstMs: 1_000,
  backoffLastMs: 60_000,
  /** Different things that fail at once and are listed; the log has each. */
  troubles: 1_000,
  /** A program of ours drains before it is killed by `up` or `down`. */
  programGraceMs: 15_000,
  /** A server that stops, before its supervisor would kill it. */
  serverStopMs: 13_000,
  /** `up` has its server and host ready, machines carved, images not counted. */
  upReadyMs: 600_000,
  /** Pauses between restarts of a child by the supervisor (surface.md §1). */
  restartFirstMs: 1_000,
  restartLastMs: 30_000,
  /**
   * A child that lived so long had come up: its death begins the row of pauses anew. Short, since
   * the gate waits 10 s for an agent (H-6.5), and one that dies again and again under leases
   * must be back by then; what dies at once is still started ever more rarely.
   */
  restartServedMs: 3_000,

  // --- HTTP
  /** Largest request body, but uploads (surface.md §5). */
  requestBytes: 1024 * 1024,
  /** Client calls without a long poll. */
  requestMs: 30_000,
  /** Connections of one address; a proxy brings all of its people through one. */
  connectionsPerSource: 4_000,
  /** Calls and streams under way at once: without a token from one address, … */
  callsPerSource: 200,
  /** … with one token: a program that follows all its leases, … */
  callsPerToken: 1_000,
  /** … and with a lease's own: its holder's stream, its renewals, its data, and a retry of each. */
  callsPerLease: 16,
  /** A token with open streams is looked up again so often: then they end with it. */
  tokenLookMs: 2_000,
  /** Items a page of a list may hold, and by default does. */
  pageItems: 500,
  pageItemsDefault: 100,
  /** A follower without an answer: with the pauses between, some minutes. */
  followTries: 12,
  /** Long poll: at most so long per call. */
  longPollMs: 60_000,
  /** Events kept for `Last-Event-ID` (surface.md §5). */
  eventBacklog: 10_000,
  /** Events kept in memory for those who follow; who is further back reads the store. */
  eventsShared: 2_000,
  /** What is old is removed, repositories packed, this often; first so long after the start. */
  housekeepingMs: 3600_000,
  housekeepingFirstMs: 60_000,
  /** A silent event stream gets a comment line, so that proxies keep it. */
  streamKeepAliveMs: 15_000,
  /** Answers kept for `Idempotency-Key`. */
  idempotencyKeepMs: 24 * 3600_000,

  // --- store
  /** Names of jobs that metrics tell apart; the others are one. */
  metricLabels: 500,
  /** Transactions that wait their turn: seconds of work; more is refused, not kept in memory. */
  storeQueue: 20_000,

  // --- leases
  /** Requests that may wait at the broker at once. */
  waiters: 2_000,
  /** Leases one holder (token) may have or wait for at once. */
  leasesPerHolder: 100,
  /** Renewals come every 10 s (lease.md L14). */
  renewMs: 10_000,
  /** A waiter's closed stream ends its request after (L11). */
  streamLossMs: 2_000,
  /** TE data not taken within (L8): cancelled. */
  takenMs: 10_000,
  /** What the host adds to the asked duration when it fixes the deadline (H-1.14, L8). */
  deadlineSlackMs: 5_000,
  /** `avoid` is preferred for so long, then taken all the same (lease.md §4). */
  avoidMs: 60_000,
  /** A host that does not answer `prepare`: the TE is faulty for this waiter. */
  prepareMs: 15_000,

  /** A TE's record that cannot be written is tried again after so long, with back-off. */
  recordRetryFirstMs: 50,
  recordRetryLastMs: 2_000,
  /** A fence that does not stand is raised again: soon, because a dead lease's key may be alive. */
  fenceRetryFirstMs: 20,
  fenceRetryLastMs: 1_000,
  /** Power as last seen counts for so long: three looks; then nobody knows (H-4.5). */
  powerKeepMs: 90_000,
  /** What a reset and a preparation take together, about: for predicted starts. */
  leaseTurnMs: 3_000,
  /** Events in the broker's mailbox; a fuller one refuses, so that none waits for long. */
  leaseMailbox: 20_000,
  /** Events decided and recorded together: one transaction (group commit). */
  leaseBatch: 500,
  /** A timer of the broker that comes so late tells that the program itself was stopped. */
  stoppedMs: 5_000,
  /** A release is answered when the fence stands, or after so long while it is being made. */
  fenceAnswerMs: 3_000,
  /** TE data are asked again of the host, or an extension is, for so long. */
  hostAnswerMs: 10_000,
  /** A waiting lease's stream tells changes around it at most so often. */
  leaseStreamMs: 500,
  /** A console's stream: what may be under way, and when an unfollowed one is taken for read. */
  consoleCreditBytes: 256 * 1024,
  consoleReadMs: 1_000,
  /** A holder without an answer for so long (the broker's grace and its TTL) has lost its lease. */
  holderSilenceMs: 90_000,
  /** One long poll of a holder, well under its TTL. */
  holderPollMs: 15_000,

  /** Free pages that a store keeps where others fill its disk: about 4,000 steps of lives. */
  storeRoomBytes: 4 * 1024 * 1024,
  /** What such a store gives up when it cannot be opened: its log, its index, some steps. */
  storeReserveBytes: 2 * 1024 * 1024,

  // --- session between broker and host
  /** A recipe of 1 MiB in base64 with its envelope fits; more is no message of ours. */
  sessionFrameBytes: 4 * 1024 * 1024,
  /** lease.md §6. */
  heartbeatMs: 5_000,
  /** Silent for so long: suspect (no new leases); then after the grace: lost (lease.md §6). */
  hostSuspectMs: 30_000,
  hostGraceMs: 60_000,
  /** Messages a side keeps until they are acknowledged; beyond, the session is ended anew. */
  sessionBacklog: 10_000,
  sessionConnectMs: 10_000,
  /** Messages of a peer not yet handled; beyond, it is not read until they are. */
  sessionInbox: 1_000,
  /** An older session that answers a ping within this is alive: the host is there twice. */
  sessionProbeMs: 2_000,
  sessionRedialFirstMs: 100,
  sessionRedialLastMs: 5_000,

  // --- host
  /** Reconciler: a pass at least so often, and so long after an event (H-1.2). */
  reconcileMs: 30_000,
  reconcileAfterEventMs: 200,
  /** Longest pass that is no trouble yet: a hundred machines are defined in it, one by one. */
  passMs: 10 * 60_000,
  /** The host is probed so often; a probe that fails is made once more after `probeAgainMs`. */
  probeMs: 30_000,
  probeAgainMs: 1_000,
  /** A probe without an answer for so long has failed; under full load a login takes seconds. */
  probeAnswerMs: 10_000,
  /** Marks of domains are kept so long: whoever edits one by hand is seen by the next pass. */
  marksKeepMs: 25_000,
  /** virsh: query, start or destroy, save or restore (H-4.6). */
  virshQueryMs: 5_000,
  virshActMs: 30_000,
  virshSaveMs: 120_000,
  /** Gate (H-6.3, H-6.5, H-6.7). */
  gateCommandBytes: 4 * 1024,
  /** Logins under way at the gate; from half of them on sshd refuses some (MaxStartups). */
  gateLogins: 300,
  /** Of one address: ten of them are needed to shut the gate, and a job has one node. */
  gateLoginsPerSource: 30,
  /** Connections of one node's address to the gate: 2014's clients open one a command. */
  gateConnectionsPerSource: 64,
  /** The wall clock against the monotonic one: so often looked at, so far off was it set. */
  clockLookMs: 1_000,
  clockStepMs: 1_000,
  /** Commands of one rack at once; a client that polls all its machines has 15. */
  gateCalls: 32,
  /** Threads of a gate account (RLIMIT_NPROC): a gate program has about 12. */
  gateThreads: 800,
  gateOutputBytes: 64 * 1024,
  /** A TCP connection within the cell, to see whether somebody listens. */
  localConnectMs: 2_000,
  /** From the end of a lease until none of its credentials works (L4, H-6.8). */
  fenceMs: 1_000,
  /** A console's log on disk (H-11.4). */
  consoleBytes: 256 * 1024 * 1024,
  /** Files brought home per lease: each at most so large, until so long after the end. */
  leaseFileBytes: 256 * 1024 * 1024,
  leaseFilesAfterEndMs: 10 * 60_000,
  /** Recorder: leases whose time line and consoles a host keeps beside those under way. */
  recordedLeases: 100,
  /** A failed reset is tried again (H-13.3, first two tries) after these pauses. */
  resetRetryMs: [1_000, 10_000],
  /** Taking a TE's parts away: so often in a row, then at the agent's next start. */
  removeTries: 20,
  /** An empty qcow2 has 200–400 KB of tables; a disk above this was written to. */
  emptyDiskBytes: 1024 * 1024,
  /** A machine turned on counts as booting for so long, unless it says that it is up (H-17.4). */
  rackBootMs: 45_000,
  machinesPerTestenv: 15,
  daemonStartMs: 60_000,
  /** The agent looks at itself so often; a look that comes so late means that it stood still. */
  stallLookMs: 1_000,
  stallMs: 5_000,
  /** Each daemon is looked at so often, so that a death is noticed within it (H-1.12). */
  daemonLookMs: 200,
  /** One try of "does it serve?" of a daemon that is starting. */
  daemonReadyMs: 10_000,
  /** What a restarted daemon forgot is set anew; pauses between tries while it settles. */
  mendFirstMs: 100,
  mendLastMs: 1_000,
  /** Killed processes of a cell give back their memory, then their control group is empty. */
  cellGoneMs: 15_000,
  controlGroupMs: 5_000,
  /** Cells that are made at once choose their test networks in turn. */
  networkTurnFirstMs: 50,
  networkTurnLastMs: 500,
  /** Boots a guest to see whether KVM works; the same one emulated takes about 3 s (H-1.13). */
  kvmProbeMs: 10_000,
  /** SeaBIOS tries again after this when no device boots (H-3.1). */
  biosRetryMs: 10_000,
  /** virsh's event loops end with libvirtd; so long later they are started again. */
  eventLoopRestartMs: 250,
  /** QEMU's end by a signal is our own so long after a destroy, or until a start and a little. */
  ownEndMs: 10_000,
  ownEndAfterStartMs: 250,
  /** dnsmasq forgets a released lease at once. */
  dhcpReleaseMs: 5_000,
  /** Pace of following a file where the kernel tells of no change. */
  tailLookMs: 500,

  // --- git and changes
  /** A person pushes a branch or a change, and tags that go along. */
  refsPerPush: 100,
  /** An operator brings in a project with all its branches and tags (nova: 300, linux: 900). */
  refsPerDirectPush: 5_000,
  /** A series becomes a change each (surface.md §6). */
  commitsPerPush: 20,
  /** A first push of a large project fits; it must not fill the disk. */
  pushBytes: 1024 * 1024 * 1024,
  /**
   * Address space of one git process: the packs of a large project are read through windows of
   * 256 MiB, its indexes whole (Linux: 400 MiB); what wants more is an attack or a mistake.
   */
  gitAddressBytes: 2 * 1024 ** 3,
  /** What walks trees that a stranger pushed (files of a change, its attributes): less of both. */
  gitWalkAddressBytes: 512 * 1024 ** 2,
  gitWalkMs: 10_000,
  /** One merge: the largest project's takes seconds; the project's other changes wait for it. */
  gitMergeMs: 60_000,
  /** Paths listed of one commit (ci.md M-7): more than any file matcher is asked about. */
  changedPaths: 10_000,
  /** A fetch's request, unpacked: wants and haves of 10⁵ refs. */
  fetchRequestBytes: 8 * 1024 * 1024,
  /** A client of git that sends or takes nothing for so long is gone. */
  gitSilenceMs: 60_000,
  /** One fetch, merge or push of git (ci.md V-0: 5 min), and how often it is tried (M-7). */
  gitMs: 300_000,
  gitTries: 3,
  /**
   * What keeps the merger from an item (a full disk, a source that is away) is tried again for so
   * long, then the item leaves with the reason and without a vote; the change hears of it before.
   */
  mergeMs: 30 * 60_000,
  mergeTellMs: 30_000,
  mergeRetryMs: 15_000,
  /** A clone or push as a whole: 1 GiB over a slow line. */
  gitTransferMs: 3600_000,
  /** git children that serve clients at once; each may take a core and some 100 MiB. */
  gitChildren: 16,
  /** Of these for one address at most: the others stay for others. */
  gitChildrenPerSource: 12,
  /** Clients that wait for a git child, all together and of one address (a router's, at worst). */
  gitWaiting: 1_000,
  gitWaitingPerSource: 250,
  /** Connections to the nodes' door: those that are served or wait, and a little. */
  nodesDoorConnections: 1_200,
  nodesDoorConnectionsPerSource: 300,
  /** Headers that are not whole by then never will be. */
  headersMs: 5_000,
  /** What a hook may wait for the server's answer: merges of a series, and a full queue. */
  hookMs: 300_000,
  /** Builds that a change names; beyond, the newest. `/v1/builds?change=` has them all. */
  buildsPerChange: 500,
  /** Comments that a change shows; beyond, the newest. */
  commentsPerChange: 500,
  /** Longest comment or report (ci.md R-3). */
  /** Gerrit's own limit for a message (ci.md R-3). */
  commentBytes: 16_384,

  // --- layout
  /** Files of a layout folder, and the largest: far beyond what people write. */
  layoutFiles: 500,
  /** One of them. */
  layoutFileBytes: 1024 * 1024,
  /** Nodes of a YAML file, every alias written out, and how deep: what is read is copied. */
  yamlNodes: 200_000,
  yamlDepth: 64,
  /** Faults told of one file's syntax: the first ones lead to the others. */
  yamlFaults: 20,
  /** A regular expression of a layout: a comment's text runs through an automaton of its size. */
  regexCharacters: 2_000,

  // --- queues
  /** Live items of all pipelines (ci.md FG-4: the longest queue). */
  queueItems: 10_000,
  /** The merger's refs of items that left are forgotten so often (M-4). */
  mergerSweepMs: 3600_000,
  /** Leases and nodes of builds that are over, kept to complete their time lines. */
  recentBuilds: 1_000,

  // --- builds
  /** The demo's change: image built, voted on, rack reset; much more than it should ever take. */
  demoMs: 3600_000,
  /** A server that its supervisor starts again answers within its longest pause and its start. */
  demoAwayMs: 90_000,
  /** After its report a change is followed so long for the rack's reset and the node's end. */
  demoTailMs: 120_000,
  /** Where nobody watches a terminal, the demo says so often what it waits for. */
  demoWaitLineMs: 10_000,
  /** ci.md F-0: pre phase failed, node or TE lost. */
  attempts: 3,
  /** A step that was cut ends within; then it is taken for ended: the node goes anyway. */
  stepEndMs: 10_000,
  /** What clean-up and collection of a cancelled build may still take. */
  cancelledCollectMs: 30_000,
  /** A time line waits so long for the reset of its rack and the end of its node. */
  timelineOpenMs: 3600_000,
  /** Builds that are over, looked through at a start for what their time lines lack. */
  timelineResume: 200,
  /** A review system takes a report within; else it is tried again. */
  reportMs: 60_000,
  /** A report that this version cannot read is looked at again after so long. */
  outboxUnreadableMs: 3600_000,
  /** Builds of a job that restarts of ours ended, before it ends without a vote. */
  buildRestarts: 10,
  /** Hosts' new beginnings under launches of a label, without a node ready between. */
  nodeHostRestarts: 10,
  /** A node of a host that is away counts as there for so long. */
  nodeHostAwayMs: 30_000,
  /** Job defaults (ci.md T-1), seconds as the layout writes them. */
  jobTimeoutSeconds: 1_800,
  jobPostTimeoutSeconds: 300,
  cleanupMs: 5 * 60_000,
  /** Of an aborted build's command, on a node that goes anyway: a stopping server waits for it. */
  endAbortedMs: 500,
  /** Grace of an ssh that is ended: it has nothing to put in order. */
  sshGraceMs: 200,
  leaseWaitMs: 3600_000,
  nodeWaitMs: 1_800_000,
  /** What a lease is asked beyond timeout + post-timeout (T-1). */
  leaseMarginMs: 60_000,
  /**
   * A build's console: its first bytes and its last are kept (of the last at least half of this),
   * and our own lines between them.
   */
  buildConsoleBytes: 64 * 1024 * 1024,
  buildConsoleHeadBytes: 48 * 1024 * 1024,
  buildConsoleTailBytes: 16 * 1024 * 1024,
  buildConsoleOwnBytes: 256 * 1024,
  /** Lines of one console that wait for the disk; beyond, its job is not read. */
  consolePendingBytes: 256 * 1024,
  /** Beyond this, while the disk takes nothing, a job's lines are dropped and counted. */
  consoleHeldBytes: 1024 * 1024,
  /** What one job's output, and all jobs' together, may take of the server in a second. */
  consoleBytesPerSecond: 4 * 1024 * 1024,
  consolesBytesPerSecond: 12 * 1024 * 1024,
  /** A kept line with its time and the mark of its cut. */
  storedLineBytes: 16 * 1024 + 256,
  /** Evidence is looked for in a file's first and last bytes: a machine's console has 256 MiB. */
  evidenceHeadBytes: 4 * 1024 * 1024,
  evidenceTailBytes: 16 * 1024 * 1024,
  /** Setup: a node must answer within. */
  nodeSetupMs: 60_000,
  /** Collect: per machine (surface.md §10). */
  collectMachineMs: 60_000,
  collectMachineBytes: 64 * 1024 * 1024,
  collectParallel: 4,
  /** Collection as a whole, machines and logs: no peer that goes on talking holds a build. */
  collectMs: 600_000,
  /** What a job's `logs/` may hold, and one file of it. */
  collectLogsBytes: 512 * 1024 * 1024,
  collectFileBytes: 256 * 1024 * 1024,
  collectFiles: 10_000,
  /** All that is collected of one build: logs and machines. */
  collectBuildBytes: 1024 * 1024 * 1024,
  /** Names of what was left out that are told one by one. */
  collectNamed: 50,
  /** What the node says of the collection: the names it left out. */
  collectSaidChars: 32 * 1024,
  /** A file's path in the tar stream; the kernel's own limit of a path is 4 KiB. */
  collectNameBytes: 4 * 1024,
  /** Of an aborted build: its clean-up and what it leaves, on a node that goes anyway. */
  abortedCleanupMs: 10_000,
  abortedCollectMs: 20_000,
  /** The host's files are waited for so long before the report (lease.md §6). */
  hostFilesMs: 10_000,
  evidenceItems: 10,
  evidenceTextChars: 200,

  // --- nodes
  /** ci.md N-4; emulated, a node boots in 20–45 s. */
  nodeLaunchAttempts: 3,
  nodeLaunchMs: 240_000,
  /** A node that no server has claimed for so long is removed by its host (H-17.3). */
  nodeUnclaimedMs: 3600_000,
  /** mmdebstrap takes 42–76 s here; a slow mirror gets time. */
  imageBuildMs: 1_800_000,
  /** A recipe crosses the session whole; its end is what people need of a failure (lease.md §6). */
  imageRecipeBytes: 1024 * 1024,
  imageBuildTailLines: 50,
  /** What a build had said when its program ended is read within. */
  imageBuildSaidMs: 1_000,

  // --- rackyard test
  /** A check of the tree (types, lint) takes seconds; a busy machine gets time. */
  testCheckMs: 10 * 60_000,
  /** All suites together are to end in 20 min; a hanging one must not hold CI for ever. */
  testSuiteMs: 45 * 60_000,
  /** One machine's boot under emulation beside other work. */
  testCalibrationMs: 5 * 60_000,
  /** Another run's machines are waited for: at most as long as that run may take. */
  testLockMs: 60 * 60_000,
} as const;

------------------------------- MODULE Fence -------------------------------
(***************************************************************************)
(* When a mutation has returned OK, nothing anywhere answers from before   *)
(* it. docs/fence.md explains the protocol; this module is what it claims, *)
(* in a form that a machine can try to refute.                             *)
(*                                                                         *)
(* There is one specification. Each guard of the protocol has a name, and  *)
(* the constant Without is the set of the guards that are taken out: the   *)
(* empty set is the protocol, {"I6"} is the protocol without rule I6. So a *)
(* variant cannot drift away from what it is a variant of.                 *)
(*                                                                         *)
(* Time. A tick is real time. In a tick each process' own clock goes on by *)
(* Slow or by Fast units, as it likes, so a clock's rate is anywhere       *)
(* between (1-rho) and (1+rho) with Fast/Slow = (1+rho)/(1-rho). No clock  *)
(* is ever compared with another, and no process reads the real time. A    *)
(* moment in the future is kept as the units that are left until then on   *)
(* the clock of the process that waits, so runs of any length need only    *)
(* finitely many states. A process that is stopped simply does nothing     *)
(* while ticks go by: every process may do nothing for as long as it likes.*)
(*                                                                         *)
(* What a fact is worth. Mutations are numbered 1, 2, ... in the order of  *)
(* their commits, lost ones included. The worth of a fact is the number of *)
(* the last mutation of it that it shows; 0 is how things were at first.   *)
(* A revision is a position in the log; after a failover that lost writes  *)
(* the same position can hold another mutation.                            *)
(***************************************************************************)
EXTENDS Integers, Sequences, FiniteSets

CONSTANTS
    Holders,            \* server processes that answer checks from memory
    Mutators,           \* server processes that take mutations
    Sidecars,           \* holders behind any of the Holders
    Caches,             \* holders behind any of the Sidecars, or else of the Holders
    Loading,            \* those of all of these that are asked, and so load facts
    Facts,              \* what a check needs to know: {"key"} or {"key", "catalog"}
    L,                  \* the length of a lease, in units of a clock
    Slow, Fast,         \* the units that a clock may go on by in a tick
    MaxMutations, MaxRegistrations, MaxCrashes, MaxFailovers,
    MaxMessages,        \* renewals and grants of one holder that are under way at once
    SlowRequests,       \* whether renewals take time to arrive; see Renewals
    Watching,           \* those of the Mutators that strike off
    Replica,            \* whether there is a copy that lags, to load facts from
    Lossy,              \* whether a failover may lose the writes that the copy lacks
    Warm,               \* whether to start with every holder registered and its cache full
    Timed,              \* whether to measure how long acknowledgements take (I8)
    Patience,           \* how long a holder downstream may leave a revision unacknowledged
    Without             \* the guards that are taken out

Servers == Holders \cup Mutators
Processes == Servers \cup Sidecars \cup Caches
Answering == Holders \cup Sidecars \cup Caches
Nested == Sidecars \cup Caches
Granting == Holders \cup (IF Caches = {} \/ Sidecars = {} THEN {} ELSE Sidecars)
GrantorsOf(h) == IF h \in Caches /\ Sidecars # {} THEN Sidecars ELSE Holders
Registrations == 1..MaxRegistrations

Guard(name) == name \notin Without

VARIABLES
    \* The store
    log,        \* the change log: a sequence of [id, fact]
    timeline,   \* the history that the store is on
    settled,    \* the timeline on which acknowledgements count
    row,        \* the register: what each registration has acknowledged, or Gone
    copy,       \* what a copy of the store has that lags behind it
    deposed,    \* a primary that was failed over and has not noticed: its head
    used,       \* how many registrations each server process has made
    \* Of a process that answers checks
    slot,       \* the registration that a server process is under, or 0
    base,       \* the timeline on which it learnt what it knows
    applied,    \* the revision up to which it has applied changes, or Never
    cache,      \* what its facts are worth, or Absent
    decision,   \* the worth of the catalogue behind a decision it remembers
    load,       \* a fact on its way into the cache
    lease,      \* what is left of its lease
    net,        \* its messages that are under way
    \* Of a process that grants leases
    granted,    \* what is left of the leases of each holder downstream, by their heads
    heard,      \* what each holder downstream has acknowledged
    lag,        \* for how long a holder downstream has left a revision unacknowledged
    late,       \* for how long a grantor has not acknowledged a revision that it has applied
    \* Of a process that mutates
    fence,      \* the mutation for which it is waiting
    watch,      \* what is left of W for a registration whose counter stands still
    settling,   \* what is left of W since it saw the timeline
    \* The promise, and the bounds
    fenced,     \* for each fact the greatest mutation that has returned OK
    made, crashes, failovers

store == <<log, timeline, settled, row, copy, deposed, used>>
holder == <<slot, base, applied, cache, decision, load, lease, net>>
grantor == <<granted, heard, lag, late>>
mutator == <<fence, watch, settling>>
bounds == <<made, crashes, failovers>>
vars == <<store, holder, grantor, mutator, fenced, bounds>>

Gone == -1
Never == -1
Absent == -1
Idle == -1

Max(a, b) == IF a > b THEN a ELSE b
Min(a, b) == IF a < b THEN a ELSE b
Left(units, gone) == Max(0, units - gone)
MaxOf(S) == CHOOSE x \in S : \A y \in S : y <= x
MinOf(S) == CHOOSE x \in S : \A y \in S : x <= y

(* A length on one clock, made long enough to cover it on any other clock:   *)
(* times (1+rho)/(1-rho), rounded up.                                        *)
WithMargin(units) == (units * Fast + Slow - 1) \div Slow

W == IF Guard("I4-drift") THEN WithMargin(L) ELSE L

(* How long a counter must stand still before its row is struck off.        *)
WholeW == IF Guard("I4-whole") THEN W ELSE L

(* The store as a snapshot shows it *)
HeadRevision == IF log # <<>> /\ log[Len(log)].fact = "none" THEN Len(log) - 1 ELSE Len(log)
Worth(changes, f) ==
    MaxOf({0} \cup {changes[i].id : i \in {j \in DOMAIN changes : changes[j].fact = f}})

(* Who grants to a nested holder in the state that Warm starts from.         *)
Main(h) == CHOOSE g \in GrantorsOf(h) : TRUE

(* How long a grantor takes a lease of that length to be alive (I3).         *)
Granted(ttl) == IF Guard("I3-margin") THEN WithMargin(ttl) ELSE ttl

(* Revisions, and the leases that a grantor has given a holder: what is left *)
(* of the longest under each head.                                           *)
Revisions == 0..MaxMutations
NoGrants == [r \in Revisions |-> 0]
AnyGrant(grants) == \E r \in Revisions : grants[r] > 0

(* What is counted, up to where it no longer matters.                        *)
Counted(units) == Min(units, Patience + W + 1)

NoLoad == [fact |-> "none", worth |-> 0, rev |-> 0, tl |-> 0]
NoFence == [rev |-> Never, id |-> 0, tl |-> 0, wait |-> 0]
NoCache == [f \in Facts |-> Absent]
NoRows == [i \in Registrations |-> Gone]
NoCopy == [log |-> <<>>, row |-> [s \in Holders |-> NoRows], settled |-> 1]
NoWatch == [s \in Holders |-> [i \in Registrations |-> 0]]

(* Either no process has started yet, or all have: all are registered, have  *)
(* renewed just now, and have loaded what they are asked for. The second     *)
(* state can be reached from the first; starting there saves the way.        *)
Init ==
    LET w(yes, no) == IF Warm THEN yes ELSE no IN
    /\ log = <<>> /\ timeline = 1 /\ settled = 1
    /\ row = [s \in Holders |-> w([NoRows EXCEPT ![1] = 0], NoRows)]
    /\ copy = NoCopy
    /\ deposed = Idle
    /\ used = [s \in Holders |-> w(1, 0)]
    /\ slot = [s \in Holders |-> w(1, 0)]
    /\ base = [h \in Answering |-> 1]
    /\ applied = [h \in Answering |-> w(0, Never)]
    /\ cache = [h \in Answering |-> [f \in Facts |->
                    IF Warm /\ h \in Loading THEN 0 ELSE Absent]]
    /\ decision = [h \in Answering |-> Absent]
    /\ load = [h \in Answering |-> NoLoad]
    /\ lease = [h \in Answering |-> w(L, 0)]
    /\ net = [h \in Answering |-> {}]
    /\ granted = [g \in Granting |-> [h \in Nested |->
                    IF Warm /\ g = Main(h) THEN [NoGrants EXCEPT ![0] = Granted(L)]
                    ELSE NoGrants]]
    /\ heard = [g \in Granting |-> [h \in Nested |-> 0]]
    /\ lag = [g \in Granting |-> [h \in Nested |-> 0]]
    /\ late = [g \in Granting |-> 0]
    /\ fence = [m \in Mutators |-> NoFence]
    /\ watch = [m \in Watching |-> [s \in Holders |-> [i \in Registrations |->
                    IF Warm /\ i = 1 THEN WholeW ELSE 0]]]
    /\ settling = [m \in Mutators |-> 0]
    /\ fenced = [f \in Facts |-> 0]
    /\ made = 0 /\ crashes = 0 /\ failovers = 0

-----------------------------------------------------------------------------
(* Time *)

Age(m, units) ==
    IF Guard("I2-sent") \/ m.kind = "refused"
    THEN [m EXCEPT !.left = Left(@, units)]
    ELSE m

(* A grant that has run out gives nothing. A renewal that has been under way *)
(* for as long is taken to be lost: the store could only move the counter    *)
(* for it, and take an acknowledgement that a fresh renewal repeats.         *)
Useless(m) == m.kind \in {"renew", "lease"} /\ m.left = 0

(* Those whose clock matters now: no other clock is read.                    *)
Counting ==
    {h \in Answering : lease[h] > 0 \/ \E m \in net[h] : m.left > 0}
    \cup {g \in Granting : \E h \in Nested : AnyGrant(granted[g][h])}
    \cup {m \in Mutators :
            \/ fence[m].wait > 0 \/ settling[m] > 0
            \/ m \in Watching /\ \E s \in Holders, i \in Registrations : watch[m][s][i] > 0}

(* I3, I8: the revision from before which a holder downstream cannot answer:  *)
(* it has acknowledged it, or every lease that it may have is under a head    *)
(* that is no lower. It answers under such a lease only when it has applied   *)
(* all of that (I2), so renewals do not prolong what it owes.                 *)
SettledBy(grants, ack) ==
    LET heads == {r \in Revisions : grants[r] > 0}
    IN IF Guard("I8-head") THEN Max(ack, MinOf(heads)) ELSE ack

SettledAll(g, grants) ==
    {SettledBy(grants[d], heard[g][d]) : d \in {x \in Nested : AnyGrant(grants[x])}}

(* Whether the grantor waits for a holder downstream before it acknowledges.  *)
Owing(g, grants) ==
    applied[g] # Never /\ MinOf({applied[g]} \cup SettledAll(g, grants)) < applied[g]

Tick ==
    /\ Counting # {}
    /\ \E steps \in [Counting -> {Slow, Fast}],
       asleep \in IF Guard("I2-suspended") THEN {{}} ELSE {{}} \cup {{h} : h \in Answering}:
        LET pace == [p \in Processes |-> IF p \in Counting THEN steps[p] ELSE 0]
            gone(p) == IF p \in asleep THEN 0 ELSE pace[p] IN
        /\ lease' = [h \in Answering |-> Left(lease[h], gone(h))]
        /\ net' = [h \in Answering |->
                    {m \in {Age(n, gone(h)) : n \in net[h]} : ~Useless(m)}]
        /\ granted' = [g \in Granting |-> [h \in Nested |-> [r \in Revisions |->
                        Left(granted[g][h][r], pace[g])]]]
        /\ lag' = [g \in Granting |-> [h \in Nested |->
                    IF Timed /\ heard[g][h] < applied[g]
                    THEN Counted(lag[g][h] + pace[g]) ELSE 0]]
        /\ late' = [g \in Granting |->
                    IF Timed /\ Owing(g, granted'[g]) THEN Counted(late[g] + pace[g]) ELSE 0]
        /\ fence' = [m \in Mutators |-> [fence[m] EXCEPT !.wait = Left(@, pace[m])]]
        /\ watch' = [m \in Watching |-> [s \in Holders |-> [i \in Registrations |->
                        Left(watch[m][s][i], pace[m])]]]
        /\ settling' = [m \in Mutators |-> Left(settling[m], pace[m])]
        /\ UNCHANGED <<store, slot, base, applied, cache, decision, load, heard,
                       fenced, bounds>>

-----------------------------------------------------------------------------
(* Answering from memory *)

HasLease(h) == lease[h] > 0 \/ ~Guard("I2-lease")

(* What a check that begins now, at this holder, would answer from. *)
Answers(h, f) ==
    (IF HasLease(h) /\ cache[h][f] # Absent THEN {cache[h][f]} ELSE {})
    \cup
    (IF HasLease(h) /\ f = "catalog" /\ decision[h] # Absent /\ cache[h]["key"] # Absent
     THEN {decision[h]} ELSE {})
    \cup
    (IF ~Guard("I5-join") /\ load[h].fact = f THEN {load[h].worth} ELSE {})

(* I7: a decision is kept under the key's name, so only a change of the key *)
(* makes the holder forget it.                                              *)
Remember(h) ==
    /\ ~Guard("I7") /\ "catalog" \in Facts
    /\ decision[h] = Absent /\ lease[h] > 0
    /\ \A f \in Facts : cache[h][f] # Absent
    /\ decision' = [decision EXCEPT ![h] = cache[h]["catalog"]]
    /\ UNCHANGED <<store, slot, base, applied, cache, load, lease, net, grantor,
                   mutator, fenced, bounds>>

(* The holder applies the next change: it forgets the fact, and throws away *)
(* what is being loaded from before the change (I5).                        *)
Apply(h) ==
    /\ applied[h] # Never /\ applied[h] < HeadRevision
    /\ base[h] = timeline \/ ~Guard("I4-timeline")
    /\ LET next == applied[h] + 1
           f == log[next].fact
       IN /\ applied' = [applied EXCEPT ![h] = next]
          /\ cache' = IF f \in Facts THEN [cache EXCEPT ![h][f] = Absent] ELSE cache
          /\ decision' = IF f = "key" THEN [decision EXCEPT ![h] = Absent] ELSE decision
          /\ load' = IF Guard("I5-discard") /\ load[h].fact = f /\ load[h].rev < next
                     THEN [load EXCEPT ![h] = NoLoad] ELSE load
    /\ UNCHANGED <<store, slot, base, lease, net, grantor, mutator, fenced, bounds>>

(* Where a fact can be loaded from, and the revision that it is true of.    *)
FromStore(f) == [fact |-> f, worth |-> Worth(log, f), rev |-> HeadRevision, tl |-> timeline]
FromCopy(f) ==
    [fact |-> f, worth |-> Worth(copy.log, f), rev |-> Len(copy.log), tl |-> timeline]
FromGrantor(g, f) ==
    [fact |-> f, worth |-> cache[g][f], rev |-> applied[g], tl |-> base[g]]

Sources(h, f) ==
    {FromStore(f)}
    \cup (IF Replica THEN {FromCopy(f)} ELSE {})
    \cup (IF h \in Nested
          THEN {FromGrantor(g, f) :
                g \in {x \in GrantorsOf(h) : lease[x] > 0 /\ cache[x][f] # Absent}}
          ELSE {})

(* I5: a load asks for at least the revision that the holder has applied.   *)
StartLoad(h, f) ==
    /\ load[h] = NoLoad /\ cache[h][f] = Absent
    /\ \E found \in Sources(h, f) :
        /\ Guard("I5-ask") => found.rev >= applied[h]
        /\ load' = [load EXCEPT ![h] = found]
    /\ UNCHANGED <<store, slot, base, applied, cache, decision, lease, net, grantor,
                   mutator, fenced, bounds>>

FinishLoad(h) ==
    /\ load[h] # NoLoad
    /\ cache' = IF applied[h] # Never /\ load[h].tl = base[h]
                THEN [cache EXCEPT ![h][load[h].fact] = load[h].worth] ELSE cache
    /\ load' = [load EXCEPT ![h] = NoLoad]
    /\ UNCHANGED <<store, slot, base, applied, decision, lease, net, grantor, mutator,
                   fenced, bounds>>

(* A grantor that starts again cannot compare what it granted and heard       *)
(* before with its new revision: every holder owes it everything until its    *)
(* leases have expired.                                                       *)
OweEverything(h) ==
    IF h \notin Granting THEN UNCHANGED grantor
    ELSE /\ granted' = [granted EXCEPT ![h] = [d \in Nested |-> [r \in Revisions |->
                IF r = 0 THEN MaxOf({granted[h][d][x] : x \in Revisions}) ELSE 0]]]
         /\ heard' = [heard EXCEPT ![h] = [d \in Nested |-> 0]]
         /\ lag' = [lag EXCEPT ![h] = [d \in Nested |-> 0]]
         /\ late' = [late EXCEPT ![h] = 0]

(* What becomes of a load when the holder starts again from revision r.     *)
AfterReset(h, r, tl) ==
    IF ~Guard("I5-reset") \/ (load[h].rev >= r /\ load[h].tl = tl) THEN load[h] ELSE NoLoad

-----------------------------------------------------------------------------
(* Leases and acknowledgements. A renewal carries an acknowledgement, and an *)
(* acknowledgement is a renewal.                                             *)

(* I3: what a holder may acknowledge.                                        *)
Ack(h) ==
    LET own == IF Guard("I3-own") \/ base[h] # timeline THEN applied[h] ELSE HeadRevision
        downstream == IF h \in Granting THEN SettledAll(h, granted[h]) ELSE {}
    IN IF Guard("I3-downstream") THEN MinOf({own} \cup downstream) ELSE own

Message(kind, to, left, rev, tl, s) ==
    [kind |-> kind, to |-> to, left |-> left, rev |-> rev, tl |-> tl, slot |-> s]

(* A message is lost when it is never delivered, which any message may be. A *)
(* holder that sends once more than its bound allows has lost an older one.  *)
Room(h) == Cardinality(net[h]) < MaxMessages
Sent(h, m) ==
    IF Room(h) THEN net' = [net EXCEPT ![h] = @ \cup {m}]
    ELSE \E lost \in net[h] : net' = [net EXCEPT ![h] = (@ \ {lost}) \cup {m}]

Delivered(h, m) == net' = [net EXCEPT ![h] = @ \ {m}]

(* A renewal that arrives late gives a shorter lease under the same head, and *)
(* brings an older acknowledgement, than one that is sent later and arrives   *)
(* at once. So where SlowRequests is false, and renewals are taken as they    *)
(* are sent, only weaker runs are left out.                                   *)
Renewal(h, to) ==
    Message("renew", to, L, Ack(h), base[h], IF to = "store" THEN slot[h] ELSE 0)

Renewals(h, to) ==
    IF SlowRequests THEN {m \in net[h] : m.kind = "renew" /\ m.to = to}
    ELSE IF to = "store" /\ slot[h] = 0 THEN {}
    ELSE {Renewal(h, to)}

(* A renewal is replaced by its answer; or it stays, and arrives once more.   *)
Answered(h, m, answer) ==
    IF SlowRequests
    THEN \/ net' = [net EXCEPT ![h] = (@ \ {m}) \cup answer]
         \/ Room(h) /\ answer # {} /\ net' = [net EXCEPT ![h] = @ \cup answer]
    ELSE IF answer = {} THEN UNCHANGED net ELSE \E a \in answer : Sent(h, a)

SendRenewal(h, to) ==
    /\ SlowRequests
    /\ to = "store" => slot[h] # 0
    /\ Sent(h, Renewal(h, to))
    /\ UNCHANGED <<store, slot, base, applied, cache, decision, load, lease, grantor,
                   mutator, fenced, bounds>>

(* The store takes a server's renewal: one statement, which moves the        *)
(* counter, keeps the acknowledgement and reads the head. A registration     *)
(* that is gone, or of another timeline, is refused.                         *)
TakeRenewal(h) ==
    \E m \in Renewals(h, "store") :
        /\ IF row[h][m.slot] # Gone /\ (m.tl = timeline \/ ~Guard("I4-timeline"))
           THEN /\ row' = [row EXCEPT ![h][m.slot] = Max(@, m.rev)]
                /\ watch' = IF Guard("I4-counter")
                            THEN [x \in Watching |-> [watch[x] EXCEPT ![h][m.slot] = WholeW]]
                            ELSE watch
                /\ LET tl == IF Guard("I4-timeline") THEN timeline ELSE m.tl IN
                   Answered(h, m, {Message("lease", "store", m.left, HeadRevision, tl, m.slot)})
           ELSE /\ Answered(h, m, {Message("refused", "store", 0, 0, 0, m.slot)})
                /\ UNCHANGED <<row, watch>>
        /\ UNCHANGED <<log, timeline, settled, copy, deposed, used, slot, base, applied, cache,
                       decision, load, lease, grantor, fence, settling, fenced, bounds>>

(* A renewal is a write, so a primary that was failed over cannot complete   *)
(* it. If it were a read, that primary would go on granting.                 *)
TakeRenewalDeposed(h) ==
    \E m \in Renewals(h, "store") :
        /\ ~Guard("I1-write") /\ deposed # Idle
        /\ m.tl < timeline
        /\ Answered(h, m, {Message("lease", "store", m.left, deposed, m.tl, m.slot)})
        /\ UNCHANGED <<store, slot, base, applied, cache, decision, load, lease, grantor,
                       mutator, fenced, bounds>>

(* A grantor takes the renewal of a holder downstream. I6: the lease that it *)
(* grants is what is left of its own. The time that the renewal was under    *)
(* way, L - m.left, is gone already on the clock of the holder.              *)
TakeRenewalDownstream(g, h) ==
    \E m \in Renewals(h, g) :
        /\ lease[g] > 0
        /\ LET ttl == IF Guard("I6") THEN lease[g] ELSE L
               left == IF Guard("I2-sent") THEN ttl - (L - m.left) ELSE ttl
               mine == IF m.tl = base[g] THEN m.rev ELSE 0
               behind == IF mine < applied[g] THEN lag[g][h] ELSE 0
               refused == Timed /\ Guard("I8-laggard") /\ behind > Patience
           IN /\ granted' = IF refused THEN granted
                            ELSE [granted EXCEPT ![g][h][applied[g]] = Max(@, Granted(ttl))]
              /\ heard' = [heard EXCEPT ![g][h] = mine]
              /\ lag' = [lag EXCEPT ![g][h] = behind]
              /\ Answered(h, m, IF left > 0 /\ ~refused
                                THEN {Message("lease", g, left, applied[g], base[g], 0)} ELSE {})
        /\ UNCHANGED <<late, store, slot, base, applied, cache, decision, load, lease, mutator,
                       fenced, bounds>>

(* I3: when the stream of a holder breaks, its lease runs on.                *)
ForgetDownstream(g, h) ==
    /\ ~Guard("I3-stream") /\ AnyGrant(granted[g][h])
    /\ granted' = [granted EXCEPT ![g][h] = NoGrants]
    /\ UNCHANGED <<lag, late, store, holder, heard, mutator, fenced, bounds>>

(* I2: a grant is used once everything up to its head has been applied.      *)
TakeLease(h) ==
    \E m \in net[h] :
        /\ m.kind = "lease" /\ m.tl = base[h]
        /\ h \in Holders => m.slot = slot[h]
        /\ applied[h] # Never
        /\ applied[h] >= m.rev \/ ~Guard("I2-head")
        /\ lease' = [lease EXCEPT ![h] = Max(@, m.left)]
        /\ Delivered(h, m)
        /\ UNCHANGED <<store, slot, base, applied, cache, decision, load, grantor, mutator,
                       fenced, bounds>>

(* A nested holder that knows nothing, or whose grantor is on a later        *)
(* timeline, starts again from the grantor's revision with nothing.          *)
StartNested(h) ==
    \E m \in net[h] :
        /\ h \in Nested /\ m.kind = "lease"
        /\ applied[h] = Never \/ m.tl > base[h]
        /\ applied' = [applied EXCEPT ![h] = m.rev]
        /\ base' = [base EXCEPT ![h] = m.tl]
        /\ cache' = [cache EXCEPT ![h] = NoCache]
        /\ decision' = [decision EXCEPT ![h] = Absent]
        /\ load' = [load EXCEPT ![h] = AfterReset(h, m.rev, m.tl)]
        /\ lease' = [lease EXCEPT ![h] = m.left]
        /\ net' = [net EXCEPT ![h] = {}]
        /\ OweEverything(h)
        /\ UNCHANGED <<store, slot, mutator, fenced, bounds>>

-----------------------------------------------------------------------------
(* The register *)

(* A server process registers: it reads the head and adds its row. With the  *)
(* head locked these are one step to any mutation. It takes a new name each  *)
(* time (I4). Registering grants the first lease, as a renewal would; it is  *)
(* taken as it is sent, which makes that lease as long as it can be.         *)
Place(h) == IF Guard("I4-name") THEN used[h] + 1 ELSE Max(1, used[h])

Register(h) ==
    /\ slot[h] = 0
    /\ Place(h) <= MaxRegistrations
    /\ used' = [used EXCEPT ![h] = Place(h)]
    /\ IF Guard("I4-lock")
       THEN /\ row' = [row EXCEPT ![h][Place(h)] = HeadRevision]
            /\ watch' = [x \in Watching |-> [watch[x] EXCEPT ![h][Place(h)] = WholeW]]
            /\ Sent(h, Message("registered", "store", L, HeadRevision, timeline, Place(h)))
       ELSE /\ Sent(h, Message("registering", "store", L, HeadRevision, timeline, Place(h)))
            /\ UNCHANGED <<row, watch>>
    /\ UNCHANGED <<log, timeline, settled, copy, deposed, slot, base, applied, cache,
                   decision, load, lease, grantor, fence, settling, fenced, bounds>>

InsertLate(h) ==
    \E m \in net[h] :
        /\ m.kind = "registering"
        /\ row' = [row EXCEPT ![h][m.slot] = m.rev]
        /\ watch' = [x \in Watching |-> [watch[x] EXCEPT ![h][m.slot] = WholeW]]
        /\ net' = [net EXCEPT ![h] = (@ \ {m}) \cup {[m EXCEPT !.kind = "registered"]}]
        /\ UNCHANGED <<log, timeline, settled, copy, deposed, used, slot, base, applied, cache,
                       decision, load, lease, grantor, fence, settling, fenced, bounds>>

(* I4: it starts with an empty cache.                                        *)
Registered(h) ==
    \E m \in net[h] :
        /\ m.kind = "registered"
        /\ slot' = [slot EXCEPT ![h] = m.slot]
        /\ base' = [base EXCEPT ![h] = m.tl]
        /\ applied' = [applied EXCEPT ![h] = m.rev]
        /\ cache' = IF Guard("I4-empty") THEN [cache EXCEPT ![h] = NoCache] ELSE cache
        /\ decision' = [decision EXCEPT ![h] = Absent]
        /\ load' = [load EXCEPT ![h] = AfterReset(h, m.rev, m.tl)]
        /\ lease' = [lease EXCEPT ![h] = m.left]
        /\ net' = [net EXCEPT ![h] = {}]
        /\ OweEverything(h)
        /\ UNCHANGED <<store, mutator, fenced, bounds>>

Refused(h) ==
    \E m \in net[h] :
        /\ m.kind = "refused" /\ m.slot = slot[h]
        /\ slot' = [slot EXCEPT ![h] = 0]
        /\ lease' = [lease EXCEPT ![h] = 0]
        /\ net' = [net EXCEPT ![h] = {}]
        /\ UNCHANGED <<store, base, applied, cache, decision, load, grantor, mutator, fenced,
                       bounds>>

(* A server process goes away in good order: its row may go once no lease    *)
(* downstream can be alive.                                                  *)
Leave(h) ==
    /\ slot[h] # 0 /\ row[h][slot[h]] # Gone
    /\ Guard("I3-leave") => \A d \in Nested : ~AnyGrant(granted[h][d])
    /\ row' = [row EXCEPT ![h][slot[h]] = Gone]
    /\ slot' = [slot EXCEPT ![h] = 0]
    /\ applied' = [applied EXCEPT ![h] = Never]
    /\ cache' = [cache EXCEPT ![h] = NoCache]
    /\ decision' = [decision EXCEPT ![h] = Absent]
    /\ load' = [load EXCEPT ![h] = NoLoad]
    /\ lease' = [lease EXCEPT ![h] = 0]
    /\ net' = [net EXCEPT ![h] = {}]
    /\ granted' = [granted EXCEPT ![h] = [d \in Nested |-> NoGrants]]
    /\ heard' = [heard EXCEPT ![h] = [d \in Nested |-> 0]]
    /\ lag' = [lag EXCEPT ![h] = [d \in Nested |-> 0]]
    /\ late' = [late EXCEPT ![h] = 0]
    /\ watch' = [x \in Watching |-> [watch[x] EXCEPT ![h][slot[h]] = 0]]
    /\ UNCHANGED <<log, timeline, settled, copy, deposed, used, base, fence, settling, fenced,
                   bounds>>

(* I4: a registration whose counter stands still for a whole W, on the clock *)
(* of the process that watches it, is struck off. A watch begins when the    *)
(* counter moves, which is the earliest that a process can see its new value.*)
StrikeOff(m, s, i) ==
    /\ row[s][i] # Gone /\ watch[m][s][i] = 0
    /\ row' = [row EXCEPT ![s][i] = Gone]
    /\ UNCHANGED <<log, timeline, settled, copy, deposed, used, holder, grantor, mutator,
                   fenced, bounds>>

-----------------------------------------------------------------------------
(* Mutations. W begins with the commit itself, which is the earliest that a  *)
(* process can know of it. The caller of an earlier mutation may have given  *)
(* up waiting.                                                               *)

Waiting(m) == fence[m].rev > 0 /\ fence[m].id > 0

Wait(m) == IF fence[m].rev = 0 THEN fence[m].wait ELSE W

Commit(m, f) ==
    /\ made < MaxMutations
    /\ Waiting(m) \/ fence[m].rev <= 0
    /\ made' = made + 1
    /\ log' = Append(log, [id |-> made + 1, fact |-> f])
    /\ fence' = [fence EXCEPT ![m] =
                    [rev |-> Len(log) + 1, id |-> made + 1, tl |-> timeline, wait |-> Wait(m)]]
    /\ UNCHANGED <<timeline, settled, row, copy, deposed, used, holder, grantor, watch,
                   settling, fenced, crashes, failovers>>

(* I1: a revision comes from the head that the transaction locks, and row    *)
(* and change are written together. Otherwise a number is reserved, or a     *)
(* change announced, before the row is written.                              *)
Reserve(m, f) ==
    /\ ~Guard("I1-order") \/ ~Guard("I1-together")
    /\ fence[m].rev <= 0 /\ made < MaxMutations /\ HeadRevision = Len(log)
    /\ log' = Append(log, [id |-> 0, fact |-> IF Guard("I1-order") THEN f ELSE "none"])
    /\ fence' = [fence EXCEPT ![m] =
                    [rev |-> Len(log) + 1, id |-> 0, tl |-> timeline, wait |-> 0]]
    /\ UNCHANGED <<timeline, settled, row, copy, deposed, used, holder, grantor, watch,
                   settling, fenced, bounds>>

CommitReserved(m, f) ==
    /\ fence[m].rev > 0 /\ fence[m].id = 0 /\ made < MaxMutations
    /\ made' = made + 1
    /\ log' = [log EXCEPT ![fence[m].rev] = [id |-> made + 1, fact |-> f]]
    /\ fence' = [fence EXCEPT ![m].id = made + 1, ![m].wait = W]
    /\ UNCHANGED <<timeline, settled, row, copy, deposed, used, holder, grantor, watch,
                   settling, fenced, crashes, failovers>>

(* I4: W counts from after the commit.                                       *)
CountEarly(m) ==
    /\ ~Guard("I4-after") /\ fence[m] = NoFence
    /\ fence' = [fence EXCEPT ![m] = [rev |-> 0, id |-> 0, tl |-> timeline, wait |-> W]]
    /\ UNCHANGED <<store, holder, grantor, watch, settling, fenced, bounds>>

(* What is now known to hold everywhere: everything up to that mutation. A   *)
(* mutation that a failover has lost is not promised any more.               *)
Settles(id) ==
    fenced' = [f \in Facts |-> Max(fenced[f], MaxOf({0} \cup
        {log[i].id : i \in {j \in DOMAIN log : log[j].fact = f /\ log[j].id <= id}}))]

FenceByAcknowledgements(m) ==
    /\ Waiting(m)
    /\ fence[m].tl = timeline
    /\ settled = timeline \/ ~Guard("I4-settle")
    /\ \A s \in Holders, i \in Registrations : row[s][i] = Gone \/ row[s][i] >= fence[m].rev
    /\ Settles(fence[m].id)
    /\ fence' = [fence EXCEPT ![m] = NoFence]
    /\ UNCHANGED <<store, holder, grantor, watch, settling, bounds>>

FenceByTime(m) ==
    /\ Waiting(m) /\ fence[m].wait = 0
    /\ Settles(fence[m].id)
    /\ fence' = [fence EXCEPT ![m] = NoFence]
    /\ UNCHANGED <<store, holder, grantor, watch, settling, bounds>>

(* The same mutation is asked for again, here or at another process: it      *)
(* finds it done, and waits for the revision that did it. A mutation that is *)
(* known to be fenced is left out, since nothing would come of it.           *)
Repeat(m, f) ==
    /\ fence[m] = NoFence
    /\ LET done == {i \in DOMAIN log : log[i].fact = f /\ log[i].id > fenced[f]} IN
        /\ done # {}
        /\ LET last == MaxOf(done) IN
            IF Guard("I4-repeat")
            THEN /\ fence' = [fence EXCEPT ![m] =
                        [rev |-> last, id |-> log[last].id, tl |-> timeline, wait |-> W]]
                 /\ UNCHANGED fenced
            ELSE /\ Settles(log[last].id)
                 /\ UNCHANGED fence
    /\ UNCHANGED <<store, holder, grantor, watch, settling, bounds>>

-----------------------------------------------------------------------------
(* Faults *)

(* A process dies and is started again: it knows nothing.                    *)
CrashHolder(h) ==
    /\ crashes < MaxCrashes /\ crashes' = crashes + 1
    /\ slot' = IF h \in Holders THEN [slot EXCEPT ![h] = 0] ELSE slot
    /\ base' = [base EXCEPT ![h] = 1]
    /\ applied' = [applied EXCEPT ![h] = Never]
    /\ cache' = [cache EXCEPT ![h] = NoCache]
    /\ decision' = [decision EXCEPT ![h] = Absent]
    /\ load' = [load EXCEPT ![h] = NoLoad]
    /\ lease' = [lease EXCEPT ![h] = 0]
    /\ net' = [net EXCEPT ![h] = {}]
    /\ granted' = IF h \in Granting
                  THEN [granted EXCEPT ![h] = [d \in Nested |-> NoGrants]] ELSE granted
    /\ heard' = IF h \in Granting THEN [heard EXCEPT ![h] = [d \in Nested |-> 0]] ELSE heard
    /\ lag' = IF h \in Granting THEN [lag EXCEPT ![h] = [d \in Nested |-> 0]] ELSE lag
    /\ late' = IF h \in Granting THEN [late EXCEPT ![h] = 0] ELSE late
    /\ fence' = IF h \in Mutators THEN [fence EXCEPT ![h] = NoFence] ELSE fence
    /\ UNCHANGED <<store, watch, settling, fenced, made, failovers>>

CrashMutator(m) ==
    /\ crashes < MaxCrashes /\ crashes' = crashes + 1
    /\ fence' = [fence EXCEPT ![m] = NoFence]
    /\ UNCHANGED <<store, holder, grantor, watch, settling, fenced, made, failovers>>

(* A copy that nothing will be read from any more need not be kept.          *)
Copying ==
    \/ Replica \/ (Lossy /\ failovers < MaxFailovers)
    \/ ~Guard("I1-durable") \/ ~Guard("I1-register")

Replicate ==
    /\ Copying
    /\ copy' = [log |-> log, row |-> row, settled |-> settled]
    /\ UNCHANGED <<log, timeline, settled, row, deposed, used, holder, grantor, mutator,
                   fenced, bounds>>

(* The copy becomes the store, on a new timeline. Where replication is not   *)
(* synchronous it may lack the last writes: mutations, registrations,        *)
(* acknowledgements. What it lacks is no longer promised. A counter that went *)
(* back may be taken for one that stood still, so any row may be struck off.  *)
Failover(lose) ==
    /\ failovers < MaxFailovers /\ failovers' = failovers + 1
    /\ lose => Lossy
    /\ timeline' = timeline + 1
    /\ deposed' = IF Guard("I1-write") THEN Idle ELSE HeadRevision
    /\ IF lose
       THEN /\ log' = copy.log /\ row' = copy.row /\ settled' = copy.settled
            /\ fenced' = [f \in Facts |-> MaxOf({0} \cup {copy.log[i].id :
                            i \in {j \in DOMAIN copy.log : copy.log[j].fact = f
                                                   /\ copy.log[j].id <= fenced[f]}})]
       ELSE UNCHANGED <<log, row, settled, fenced>>
    /\ watch' = [m \in Watching |-> NoWatch]
    /\ settling' = [m \in Mutators |-> W]
    /\ copy' = IF Replica \/ failovers' < MaxFailovers THEN copy ELSE NoCopy
    /\ UNCHANGED <<used, holder, grantor, fence, made, crashes>>

(* A store that crashes and comes back has lost nothing that it had          *)
(* committed; otherwise the mutations, or the register alone, go back.       *)
LoseWrites ==
    /\ ~Guard("I1-durable") \/ ~Guard("I1-register")
    /\ log' = IF Guard("I1-durable") THEN log ELSE copy.log
    /\ row' = IF Guard("I1-register")
              THEN [s \in Holders |-> [i \in Registrations |-> Min(row[s][i], Len(log'))]]
              ELSE copy.row
    /\ UNCHANGED <<timeline, settled, copy, deposed, used, holder, grantor, mutator, fenced,
                   bounds>>

(* Acknowledgements count again when W has passed since a process saw the    *)
(* new timeline, which at the earliest is when it began.                     *)
Settle(m) ==
    /\ settled # timeline /\ settling[m] = 0
    /\ settled' = timeline
    /\ UNCHANGED <<log, timeline, row, copy, deposed, used, holder, grantor, mutator, fenced,
                   bounds>>

-----------------------------------------------------------------------------
Next ==
    \/ Tick
    \/ \E h \in Answering :
        Apply(h) \/ FinishLoad(h) \/ TakeLease(h) \/ Remember(h) \/ CrashHolder(h)
    \/ \E h \in Loading, f \in Facts : StartLoad(h, f)
    \/ \E h \in Holders :
        \/ SendRenewal(h, "store") \/ TakeRenewal(h) \/ TakeRenewalDeposed(h)
        \/ Register(h) \/ InsertLate(h) \/ Registered(h) \/ Refused(h) \/ Leave(h)
    \/ \E h \in Nested :
        \/ StartNested(h)
        \/ \E g \in GrantorsOf(h) :
            SendRenewal(h, g) \/ TakeRenewalDownstream(g, h) \/ ForgetDownstream(g, h)
    \/ \E m \in Mutators :
        \/ FenceByAcknowledgements(m) \/ FenceByTime(m) \/ CountEarly(m) \/ Settle(m)
        \/ \E f \in Facts :
            Commit(m, f) \/ Repeat(m, f) \/ Reserve(m, f) \/ CommitReserved(m, f)
        \/ m \in Watching /\ \E s \in Holders, i \in Registrations : StrikeOff(m, s, i)
    \/ \E m \in Mutators \ Answering : CrashMutator(m)
    \/ Replicate \/ LoseWrites
    \/ \E lose \in BOOLEAN : Failover(lose)

Spec == Init /\ [][Next]_vars

-----------------------------------------------------------------------------
(* The promise: no check that begins after a mutation's OK is answered from  *)
(* a state before it. A check that could begin now begins after every OK so  *)
(* far, so this is a statement about each single state.                      *)
NothingStale ==
    \A h \in Answering, f \in Facts : \A worth \in Answers(h, f) : worth >= fenced[f]

(* What at_least_revision stands on: whatever is in a cache is no older than *)
(* the revision that its holder has applied.                                 *)
AppliedIsShown ==
    \A h \in Answering, f \in Facts :
        (cache[h][f] # Absent /\ base[h] = timeline /\ applied[h] # Never)
            => cache[h][f] >= Worth(SubSeq(log, 1, applied[h]), f)

(* I8: a grantor acknowledges, or ends the fence of, whatever it has applied    *)
(* within W by its own clock, however the holders downstream behave. With two  *)
(* mutations `late` counts from the first one that is not acknowledged, so it  *)
(* is bounded for one.                                                         *)
Bounded == \A g \in Granting : late[g] <= W

(* I8: a holder that leaves a revision unacknowledged has no lease any more    *)
(* when its patience and W have passed: from then on no grantor waits for it.  *)
LaggardsHaveNoLease ==
    \A g \in Granting, d \in Nested :
        lag[g][d] > Patience + W => ~AnyGrant(granted[g][d])

-----------------------------------------------------------------------------
(* What must happen in some run, or the promise would be kept by doing       *)
(* nothing. Each is stated as though it never did; the checker must refute   *)
(* it.                                                                       *)
FromMemory(h, f) == lease[h] > 0 /\ cache[h][f] # Absent

NeverLate ==
    ~\E g \in Granting : late[g] > 0 /\ \E d \in Nested : granted[g][d][applied[g]] > 0

NeverFromMemory ==
    ~\E h \in Loading : FromMemory(h, "key") /\ cache[h]["key"] > 0 /\ fenced["key"] > 0

NeverOldUntilFenced ==
    ~\E h \in Loading, m \in Mutators :
        Waiting(m) /\ FromMemory(h, "key") /\ cache[h]["key"] < fence[m].id

NeverFencedByAcknowledgements ==
    [][~\E m \in Mutators :
        FenceByAcknowledgements(m) /\ fence[m].wait > 0 /\ \A h \in Answering : lease[h] > 0]_vars

NeverFencedByTime ==
    [][~\E m \in Mutators :
        /\ FenceByTime(m)
        /\ \E s \in Holders, i \in Registrations :
            row[s][i] # Gone /\ row[s][i] < fence[m].rev]_vars

NeverThrownAway ==
    [][~\E h \in Loading : Apply(h) /\ load[h] # NoLoad /\ load'[h] = NoLoad]_vars

NeverBackAfterStrikeOff ==
    [][~\E h \in Holders : Registered(h) /\ applied[h] # Never /\ row[h][used[h]] # Gone]_vars

NeverFastAfterFailover ==
    [][~\E m \in Mutators :
        /\ FenceByAcknowledgements(m) /\ timeline > 1 /\ fence[m].wait > 0
        /\ \A h \in Answering : lease[h] > 0 /\ base[h] = timeline]_vars

NeverRepeated ==
    ~\E m \in Mutators : Waiting(m) /\ crashes > 0 /\ fenced["key"] < fence[m].id
=============================================================================

/**
 * Facts about a bounded number of keys, and never decisions. When another key comes, one goes that
 * was not asked for lately. Keys are found by a digest with a secret of this process, so that no
 * plaintext stays in memory.
 */

import { hash, randomBytes } from "node:crypto";
import type { FetchFactsResponse, FetchKeyspacesResponse, RevisionChanges } from "../v1/index.js";
import type { Facts } from "./facts.js";
import { factsOf, subjectOf } from "./facts.js";
import type { Guard } from "./lease.js";
import { Uses } from "./uses.js";

const MAX_KEY_LENGTH = 512;

/** A key in memory. */
export interface Entry {
  readonly facts: Facts;
  readonly digest: string;
  /** Asked for since its turn to go came up. */
  isAskedFor: boolean;
  /** Checks that have passed and are not handed over to be reported. */
  uses: number;
  lastUse: number;
  lastAddress: string;
}

/** Facts on their way into memory, and what has changed since they were asked for. */
export interface Fill {
  readonly startedAt: bigint;
  readonly epoch: string;
  readonly changed: { readonly revision: bigint; readonly subject: string }[];
  isVoid: boolean;
}

export class Memory {
  readonly #capacity: number;
  readonly #without: Guard | undefined;
  readonly #secret = randomBytes(32).toString("latin1");
  /** In the order of their turn to go. */
  readonly #entries = new Map<string, Entry>();
  readonly #bySubject = new Map<string, Entry | Set<Entry>>();
  readonly #registered = new Map<string, ReadonlySet<string>>();
  readonly #fills = new Set<Fill>();
  readonly #uses = new Uses();
  #epoch = "";
  /** The revision up to which every change is applied. */
  applied = 0n;
  discardedFills = 0;
  resets = 0;

  constructor(capacity: number, without?: Guard) {
    this.#capacity = capacity;
    this.#without = without;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** The key's entry, if there is one. */
  find(apiKey: string): Entry | undefined {
    if (apiKey.length > MAX_KEY_LENGTH) {
      return undefined;
    }
    const entry = this.#entries.get(this.#digest(apiKey));
    if (entry !== undefined) {
      entry.isAskedFor = true;
    }
    return entry;
  }

  /** Whether the keyspace registers all of the scopes. */
  registers(keyspace: string, scopes: readonly string[]): boolean {
    const registered = this.#registered.get(keyspace);
    return registered !== undefined && scopes.every((scope) => registered.has(scope));
  }

  beginFill(): Fill {
    const fill: Fill = { startedAt: this.applied, epoch: this.#epoch, changed: [], isVoid: false };
    this.#fills.add(fill);
    return fill;
  }

  dropFill(fill: Fill): void {
    this.#fills.delete(fill);
  }

  /** Remembers what the server told, if nothing has overtaken it. Says whether checks can be answered now. */
  endFill(fill: Fill, apiKey: string, response: FetchFactsResponse): boolean {
    this.#fills.delete(fill);
    const facts = factsOf(response);
    if (facts === undefined || apiKey.length > MAX_KEY_LENGTH) {
      return false;
    }
    const isOvertaken =
      fill.isVoid ||
      response.epoch !== fill.epoch ||
      response.revision < fill.startedAt ||
      fill.changed.some((one) => one.revision > response.revision && facts.dependsOn.includes(one.subject));
    if (isOvertaken && this.#without !== "discard_overtaken_fills") {
      this.discardedFills += 1;
      return false;
    }
    const digest = this.#digest(apiKey);
    const replaced = this.#entries.get(digest);
    if (replaced !== undefined) {
      this.#drop(replaced);
    }
    while (this.#entries.size >= this.#capacity) {
      this.#dropOne();
    }
    const entry = { facts, digest, isAskedFor: false, uses: 0, lastUse: 0, lastAddress: "" };
    this.#entries.set(digest, entry);
    for (const subject of facts.dependsOn) {
      const known = this.#bySubject.get(subject);
      if (known instanceof Set) {
        known.add(entry);
      } else {
        this.#bySubject.set(subject, known === undefined ? entry : new Set([known, entry]));
      }
    }
    return !facts.isCounted;
  }

  /** Remembers which scopes are registered. Says whether that is still so. */
  endKeyspacesFill(fill: Fill, response: FetchKeyspacesResponse): boolean {
    this.#fills.delete(fill);
    if (
      fill.isVoid ||
      response.epoch !== fill.epoch ||
      response.revision < fill.startedAt ||
      fill.changed.length > 0
    ) {
      return false;
    }
    this.#registered.clear();
    for (const keyspace of response.keyspaces) {
      const scopes = new Set(keyspace.scopes.map((scope) => scope.name));
      for (const resource of keyspace.resources) {
        for (const level of resource.levels) {
          scopes.add(`${resource.name}:${level.name}`);
        }
      }
      this.#registered.set(keyspace.name, scopes);
    }
    return true;
  }

  /** Forgets what a revision changed. Says whether the keyspaces must be fetched again. */
  apply(changes: RevisionChanges): boolean {
    let anyKeyspace = false;
    for (const change of changes.changes) {
      const subject = subjectOf(change);
      if (subject === undefined) {
        if (this.#without === "forget_unknown_changes") {
          continue;
        }
        // What it is about cannot be told (rule I8), so nothing that is remembered counts.
        this.#forget();
        anyKeyspace = true;
        break;
      }
      for (const fill of this.#fills) {
        fill.changed.push({ revision: changes.revision, subject });
      }
      if (change.subject.case === "keyspace") {
        anyKeyspace = true;
        this.#registered.delete(change.subject.value);
      }
      const known = this.#bySubject.get(subject);
      for (const entry of known instanceof Set ? [...known] : known ? [known] : []) {
        this.#drop(entry);
      }
    }
    this.applied = changes.revision;
    return anyKeyspace;
  }

  /** Starts anew, from this revision of this epoch on. */
  forgetEverything(head: bigint, epoch: string): void {
    if (this.#epoch !== "") {
      this.resets += 1;
    }
    this.#forget();
    this.applied = head;
    this.#epoch = epoch;
  }

  /** Notes a check that has passed. */
  use(entry: Entry, wall: number, clientAddress: string): void {
    entry.uses += 1;
    entry.lastUse = wall;
    entry.lastAddress = clientAddress;
  }

  /** Hands over how keys were used since it was last called, to be reported. */
  takeUses(): ReturnType<Uses["take"]> {
    for (const entry of this.#entries.values()) {
      this.#collect(entry);
    }
    return this.#uses.take();
  }

  /** Takes back what could not be reported. */
  putBackUses(uses: ReturnType<Uses["take"]>): void {
    for (const use of uses) {
      this.#uses.add(use);
    }
  }

  #digest(apiKey: string): string {
    // The secret before the text is of one length, and what is made of both is never told.
    return hash("sha256", this.#secret + apiKey, "binary");
  }

  #forget(): void {
    for (const entry of this.#entries.values()) {
      this.#collect(entry);
    }
    this.#entries.clear();
    this.#bySubject.clear();
    this.#registered.clear();
    for (const fill of this.#fills) {
      fill.isVoid = true;
    }
  }

  #dropOne(): void {
    for (const entry of this.#entries.values()) {
      if (!entry.isAskedFor) {
        this.#drop(entry);
        return;
      }
      // To the end of the queue, which this loop comes to when all were asked for.
      entry.isAskedFor = false;
      this.#entries.delete(entry.digest);
      this.#entries.set(entry.digest, entry);
    }
  }

  #drop(entry: Entry): void {
    this.#entries.delete(entry.digest);
    for (const subject of entry.facts.dependsOn) {
      const known = this.#bySubject.get(subject);
      if (known instanceof Set) {
        known.delete(entry);
        if (known.size === 0) {
          this.#bySubject.delete(subject);
        }
      } else if (known === entry) {
        this.#bySubject.delete(subject);
      }
    }
    this.#collect(entry);
  }

  #collect(entry: Entry): void {
    if (entry.uses > 0) {
      const { keyId } = entry.facts.principal;
      this.#uses.add({ keyId, lastUsed: entry.lastUse, address: entry.lastAddress, count: entry.uses });
      entry.uses = 0;
    }
  }
}

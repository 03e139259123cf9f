package holder

import (
	"container/list"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	keyfencev1 "github.com/keyfence/keyfence/clients/go/keyfence/v1"
)

const (
	digestSize  = 16
	maxKeyBytes = 512
)

type digest [digestSize]byte

// entry is a key in memory.
type entry struct {
	*facts
	digest digest
	place  *list.Element
	// isAskedFor: since its place in the queue came up.
	isAskedFor atomic.Bool
	// uses counts checks that have passed; collected of them were handed over to be reported.
	uses        atomic.Int64
	collected   int64
	lastUse     atomic.Int64
	lastAddress atomic.Pointer[string]
}

// use notes a check that has passed.
func (e *entry) use(now time.Time, clientAddress string) {
	e.uses.Add(1)
	e.lastUse.Store(now.UnixNano())
	if known := e.lastAddress.Load(); known == nil || *known != clientAddress {
		stored := clientAddress // so that only what is stored is allocated
		e.lastAddress.Store(&stored)
	}
}

type change struct {
	revision int64
	subject  Subject
}

// Fill is facts on their way into memory, and what has changed since they were asked for.
type Fill struct {
	startedAt int64
	epoch     string
	changed   []change
	isVoid    bool
}

// Memory remembers facts about at most so many keys, and never decisions. When another key comes,
// one goes that was not asked for lately.
//
// Finding takes no lock. A key is found by a digest with a secret of this process, so that no
// plaintext stays in memory.
type Memory struct {
	capacity int
	secret   [digestSize]byte
	guards   Guards
	entries  sync.Map // digest → *entry
	applied  atomic.Int64

	mu         sync.Mutex
	queue      list.List // of *entry; the front has waited longest
	bySubject  map[Subject]map[*entry]struct{}
	registered map[string]map[string]struct{}
	fills      map[*Fill]struct{}
	epoch      string
	uses       uses

	discardedFills atomic.Int64
	resets         atomic.Int64
}

// NewMemory is an empty memory.
func NewMemory(capacity int, guards Guards) *Memory {
	memory := &Memory{
		capacity:   capacity,
		guards:     guards,
		bySubject:  map[Subject]map[*entry]struct{}{},
		registered: map[string]map[string]struct{}{},
		fills:      map[*Fill]struct{}{},
	}
	_, _ = rand.Read(memory.secret[:]) // never fails: the process would have ended
	return memory
}

// digest is what a key is found by; false if the text is too long to be a key.
func (m *Memory) digest(apiKey string) (digest, bool) {
	if len(apiKey) > maxKeyBytes {
		return digest{}, false
	}
	var text [digestSize + maxKeyBytes]byte
	length := copy(text[:], m.secret[:])
	length += copy(text[length:], apiKey)
	sum := sha256.Sum256(text[:length])
	return digest(sum[:digestSize]), true
}

func (m *Memory) find(apiKey string) *entry {
	key, ok := m.digest(apiKey)
	if !ok {
		return nil
	}
	found, ok := m.entries.Load(key)
	if !ok {
		return nil
	}
	known := found.(*entry)
	if !known.isAskedFor.Load() {
		known.isAskedFor.Store(true)
	}
	return known
}

// registers says whether the keyspace is known to register all of the scopes.
func (m *Memory) registers(keyspace string, scopes []string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	registered, ok := m.registered[keyspace]
	if !ok {
		return false
	}
	for _, scope := range scopes {
		if _, ok := registered[scope]; !ok {
			return false
		}
	}
	return true
}

// beginFill is called before facts are asked for. Every fill must be ended or dropped.
func (m *Memory) beginFill() *Fill {
	m.mu.Lock()
	defer m.mu.Unlock()
	fill := &Fill{startedAt: m.applied.Load(), epoch: m.epoch}
	m.fills[fill] = struct{}{}
	return fill
}

func (m *Memory) dropFill(fill *Fill) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.fills, fill)
}

// endFill remembers facts, unless something has changed that they may not show (rule I5). It says
// whether checks of the key can be answered now.
func (m *Memory) endFill(fill *Fill, apiKey string, response *keyfencev1.FetchFactsResponse) bool {
	known, ok := factsOf(response)
	key, hasDigest := m.digest(apiKey)
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.fills, fill)
	if !ok || !hasDigest {
		return false
	}
	if !m.guards.KeepOvertakenFills &&
		(response.Epoch != fill.epoch || fill.isOvertaken(response.Revision, known.dependsOn)) {
		m.discardedFills.Add(1)
		return false
	}
	if replaced, ok := m.entries.Load(key); ok {
		m.drop(replaced.(*entry))
	}
	added := &entry{facts: known, digest: key}
	added.isAskedFor.Store(true)
	added.place = m.queue.PushBack(added)
	for _, subject := range known.dependsOn {
		if m.bySubject[subject] == nil {
			m.bySubject[subject] = map[*entry]struct{}{}
		}
		m.bySubject[subject][added] = struct{}{}
	}
	m.entries.Store(key, added)
	for m.queue.Len() > m.capacity {
		m.dropOne()
	}
	return !known.isCounted
}

func (f *Fill) isOvertaken(revision int64, dependsOn []Subject) bool {
	return f.isVoid || revision < f.startedAt || slices.ContainsFunc(f.changed, func(one change) bool {
		return one.revision > revision && slices.Contains(dependsOn, one.subject)
	})
}

// endKeyspacesFill remembers which scopes are registered. It says whether that is still so.
func (m *Memory) endKeyspacesFill(fill *Fill, response *keyfencev1.FetchKeyspacesResponse) bool {
	registered := map[string]map[string]struct{}{}
	for _, keyspace := range response.Keyspaces {
		scopes := map[string]struct{}{}
		for _, scope := range keyspace.Scopes {
			scopes[scope.Name] = struct{}{}
		}
		for _, resource := range keyspace.Resources {
			for _, level := range resource.Levels {
				scopes[resource.Name+":"+level.Name] = struct{}{}
			}
		}
		registered[keyspace.Name] = scopes
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.fills, fill)
	if fill.isVoid || response.Epoch != fill.epoch || response.Revision < fill.startedAt || len(fill.changed) > 0 {
		return false
	}
	m.registered = registered
	return true
}

// apply forgets what a revision changed. It says whether the keyspaces must be fetched again.
func (m *Memory) apply(changes *keyfencev1.RevisionChanges) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	anyKeyspace := false
	for _, one := range changes.Changes {
		subject, ok := subjectOf(one)
		if !ok {
			if m.guards.IgnoreUnknownChanges {
				continue
			}
			// What it is about cannot be told (rule I8), so nothing that is remembered counts.
			m.forget()
			anyKeyspace = true
			break
		}
		for fill := range m.fills {
			fill.changed = append(fill.changed, change{changes.Revision, subject})
		}
		if name := one.GetKeyspace(); name != "" {
			anyKeyspace = true
			delete(m.registered, name)
		}
		for known := range m.bySubject[subject] {
			m.drop(known)
		}
	}
	m.applied.Store(changes.Revision)
	return anyKeyspace
}

// forgetEverything starts anew, from this revision of this epoch on.
func (m *Memory) forgetEverything(head int64, epoch string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.epoch != "" {
		m.resets.Add(1)
	}
	m.forget()
	m.applied.Store(head)
	m.epoch = epoch
}

func (m *Memory) forget() {
	for m.queue.Len() > 0 {
		m.drop(m.queue.Front().Value.(*entry))
	}
	clear(m.registered)
	for fill := range m.fills {
		fill.isVoid = true
	}
}

func (m *Memory) dropOne() {
	for {
		oldest := m.queue.Front().Value.(*entry)
		if !oldest.isAskedFor.Swap(false) {
			m.drop(oldest)
			return
		}
		m.queue.MoveToBack(oldest.place)
	}
}

func (m *Memory) drop(known *entry) {
	m.entries.Delete(known.digest)
	m.queue.Remove(known.place)
	for _, subject := range known.dependsOn {
		delete(m.bySubject[subject], known)
		if len(m.bySubject[subject]) == 0 {
			delete(m.bySubject, subject)
		}
	}
	m.collect(known)
}

func (m *Memory) collect(known *entry) {
	count := known.uses.Load() - known.collected
	if count == 0 {
		return
	}
	known.collected += count
	address := ""
	if last := known.lastAddress.Load(); last != nil {
		address = *last
	}
	m.uses.note(use{known.principal.KeyId, known.lastUse.Load(), address, count})
}

// takeUses hands over how keys were used since it was last called, to be reported.
func (m *Memory) takeUses() []use {
	m.mu.Lock()
	defer m.mu.Unlock()
	for place := m.queue.Front(); place != nil; place = place.Next() {
		m.collect(place.Value.(*entry))
	}
	return m.uses.take()
}

func (m *Memory) putBackUses(taken []use) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, one := range taken {
		m.uses.add(one)
	}
}

func (m *Memory) size() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.queue.Len()
}

package manifest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// ErrNoTarget is a target path that no role signs. It is no refusal.
var ErrNoTarget = errors.New("no role signs this target")

// maxVisited bounds the roles that one search asks, as the TUF specification advises in 5.6.7.
const maxVisited = 32

// Plain is a client for any TUF repository, without the rules of a product: the walk of Client on its own. It
// exists so that test suites for TUF clients can be pointed at this walk, and is no way to run a service.
// Its methods must not be called concurrently.
type Plain struct {
	Root     []byte // the root to start from
	Source   Source
	Kept     Source    // what an earlier Plain verified
	Now      time.Time // held against every expiry
	Verified func(role string, f File) error

	core core
}

// Refresh brings in the four top-level roles. Verified is told of each file that was not kept yet, as soon
// as it is verified and whatever becomes of the next ones.
func (p *Plain) Refresh(ctx context.Context) (err error) {
	defer recovered(&err)
	p.core = core{
		ctx: ctx, src: p.Source, cache: p.Kept, anchor: p.Root, at: p.Now,
		verified: p.Verified, used: map[string]bool{},
	}
	return p.core.top()
}

// PlainTarget is what a role says about a target.
type PlainTarget struct {
	Name      string // where its bytes lie in the repository
	SizeBytes int64

	signed *metadata.TargetFiles
}

// Check reports whether these are the bytes that were signed.
func (t PlainTarget) Check(data []byte) error {
	if err := t.signed.VerifyLengthHashes(data); err != nil {
		return fmt.Errorf("%s: %w (%v)", t.Name, ErrMismatch, err)
	}
	return nil
}

// Find searches the roles for a target in the order of the TUF specification, 5.6.7: depth first, delegations
// as they are listed, none after a terminating one. A role is verified anew for each delegator that leads to
// it. Find must follow a Refresh without error; it returns ErrNoTarget, a refusal, or the source's error.
func (p *Plain) Find(ctx context.Context, path string) (t PlainTarget, err error) {
	defer recovered(&err)
	p.core.ctx = ctx
	type edge struct{ role, delegator string }
	visited := map[string]bool{}
	for todo := []edge{{RoleTargets, RoleRoot}}; len(todo) > 0 && len(visited) < maxVisited; {
		next := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if visited[next.role] {
			continue
		}
		visited[next.role] = true
		signed, err := p.core.role(next.role, next.delegator)
		if err != nil {
			return PlainTarget{}, err
		}
		if f := signed.Targets[path]; f != nil {
			return newPlainTarget(path, f)
		}
		if signed.Delegations == nil {
			continue
		}
		var found []edge
		for _, r := range signed.Delegations.GetRolesForTarget(path) {
			found = append(found, edge{r.Name, next.role})
			if r.Terminating {
				todo = nil
				break
			}
		}
		slices.Reverse(found)
		todo = append(todo, found...)
	}
	return PlainTarget{}, fmt.Errorf("%s: %w", path, ErrNoTarget)
}

// newPlainTarget names the file by sha256 where there is one, else by the first algorithm in the alphabet.
func newPlainTarget(path string, f *metadata.TargetFiles) (PlainTarget, error) {
	var kinds []string
	for kind := range f.Hashes {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	if len(kinds) == 0 {
		return PlainTarget{}, fmt.Errorf("%s: %w", path, ErrHash)
	}
	kind := kinds[0]
	if slices.Contains(kinds, "sha256") {
		kind = "sha256"
	}
	return PlainTarget{targetName(path, f.Hashes[kind].String()), f.Length, f}, nil
}

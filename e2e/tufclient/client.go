package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/manifest"
)

type client struct {
	dir, metadataURL     string
	targetURL, targetDir string
}

// anchor is the root that init was given. It has no .json at its end, since suites count those.
const anchor = "roots/anchor"

func (c client) init(root string) error {
	data, err := os.ReadFile(root)
	if err != nil {
		return err
	}
	if err := durable.MkdirAll(durable.OS(), filepath.Join(c.dir, "roots"), 0o755); err != nil {
		return err
	}
	return errors.Join(c.write(anchor, data), c.write("root.json", data))
}

func (c client) write(name string, data []byte) error {
	return durable.WriteFile(durable.OS(), filepath.Join(c.dir, filepath.FromSlash(name)), data, 0o644)
}

// download refreshes the metadata and brings in targets, if any.
func (c client) download(ctx context.Context, now time.Time, targets []string) error {
	root, err := os.ReadFile(filepath.Join(c.dir, filepath.FromSlash(anchor)))
	if err != nil {
		return fmt.Errorf("%w; run init first", err)
	}
	p := manifest.Plain{Root: root, Source: c.remote(), Kept: kept(c.dir), Now: now, Verified: c.keep}
	if err := p.Refresh(ctx); err != nil {
		return err
	}
	for _, path := range targets {
		t, err := p.Find(ctx, path)
		if err != nil {
			return err
		}
		if err := c.target(ctx, path, t); err != nil {
			return err
		}
	}
	return nil
}

// target has the bytes of a target on the disk: those of an earlier download if they are still right.
func (c client) target(ctx context.Context, path string, t manifest.PlainTarget) error {
	file := filepath.Join(c.targetDir, url.QueryEscape(path))
	if data, err := os.ReadFile(file); err == nil && t.Check(data) == nil {
		return nil
	}
	data, err := c.remote().Get(ctx, t.Name, t.SizeBytes)
	if err != nil {
		return err
	}
	if err := t.Check(data); err != nil {
		return err
	}
	return durable.WriteFile(durable.OS(), file, data, 0o644)
}

// keep writes a verified file under its role's name, and a root also under its number.
func (c client) keep(role string, f manifest.File) error {
	if role == manifest.RoleRoot {
		if err := c.write("roots/"+filepath.Base(f.Name), f.Data); err != nil {
			return err
		}
	}
	return c.write(url.QueryEscape(role)+".json", f.Data)
}

// kept is the folder of trusted metadata as a repository: numbered names lead to the one file of the role,
// whose number manifest finds out for itself.
type kept string

func (k kept) Get(_ context.Context, name string, maxBytes int64) ([]byte, error) {
	file := strings.TrimPrefix(name, "metadata/")
	if number, role, ok := strings.Cut(file, "."); ok && number != manifest.RoleTimestamp {
		file = url.QueryEscape(strings.TrimSuffix(role, ".json")) + ".json"
		if file == "root.json" {
			file = "roots/" + number + ".root.json"
		}
	}
	return durable.ReadFile(durable.OS(), filepath.Join(string(k), filepath.FromSlash(file)), maxBytes)
}

func (c client) remote() remote { return remote{"metadata/": c.metadataURL, "targets/": c.targetURL} }

// remote is a repository whose metadata and targets have web addresses of their own.
type remote map[string]string

func (r remote) Get(ctx context.Context, name string, maxBytes int64) ([]byte, error) {
	for prefix, base := range r {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			if prefix == "metadata/" {
				rest = url.PathEscape(rest) // a role's name may hold slashes; a target's are folders
			}
			return get(ctx, strings.TrimSuffix(base, "/")+"/"+rest, maxBytes)
		}
	}
	return nil, fmt.Errorf("%s is neither metadata nor a target", name)
}

func get(ctx context.Context, address string, maxBytes int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, &fs.PathError{Op: "get", Path: address, Err: fs.ErrNotExist}
	default:
		return nil, fmt.Errorf("get %s: %s", address, res.Status)
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, maxBytes+1))
	if err == nil && int64(len(data)) > maxBytes {
		err = fmt.Errorf("get %s: more than %d bytes", address, maxBytes)
	}
	return data, err
}

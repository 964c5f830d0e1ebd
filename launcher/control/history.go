package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// Record is one finished update in the history, numbered from 1 in the order of writing.
type Record struct {
	N int `json:"n"`
	updater.Entry
}

// History is the answer to a question about the past, newest first.
type History struct {
	Entries []Record `json:"entries"`
}

// Quarantine is what is turned away on this host: by its failure, and by an operator or a crash loop.
type Quarantine struct {
	Quarantine []journal.Mark `json:"quarantine"`
	Held       []journal.Mark `json:"held"`
}

// Bounds on the history file, which is for people: when it is full it is put aside as NAME.1 and begun
// again. maxEntry bounds one line.
const (
	maxHistory = 8 << 20
	maxEntry   = 256 << 10
	maxEntries = 1000
)

// AppendHistory writes e behind the last entry, one JSON object a line, and syncs. If power fails the last
// line may be torn; it is then skipped by ReadHistory and closed by the next AppendHistory.
func AppendHistory(d durable.Disk, file string, e updater.Entry) error {
	last, err := ReadHistory(d, file, 1)
	if err != nil {
		return err
	}
	r := Record{N: 1, Entry: e}
	if len(last) > 0 {
		r.N = last[0].N + 1
	}
	line := marshal(r)
	if len(line) > maxEntry {
		r.Evidence, r.Reason = nil, ""
		line = marshal(r)
	}
	if err := appendLine(d, file, line); err != nil {
		return fmt.Errorf("append to history: %w", err)
	}
	return nil
}

func appendLine(d durable.Disk, file string, line []byte) error {
	if st, err := d.Lstat(file); err == nil && st.Size() > maxHistory {
		if err := d.Rename(file, file+".1"); err != nil {
			return err
		}
	}
	f, err := d.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if end > 0 { // close a line that a power cut tore
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, end-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			line = slices.Concat([]byte("\n"), line)
		}
	}
	if _, err := f.WriteAt(line, end); err != nil {
		return err
	}
	if err := f.Sync(); err != nil || end > 0 {
		return err
	}
	return d.SyncDir(filepath.Dir(file)) // the name is new
}

// ReadHistory returns the newest entries first, at most limit. A file that is not there is an empty history;
// lines that cannot be read are skipped.
func ReadHistory(d durable.Disk, file string, limit int) ([]Record, error) {
	var all []Record
	for _, name := range []string{file, file + ".1"} {
		data, err := durable.ReadFile(d, name, maxHistory+2*maxEntry)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read history: %w", err)
		}
		lines := bytes.Split(data, []byte("\n"))
		slices.Reverse(lines)
		for _, line := range lines {
			if len(all) >= limit {
				return all, nil
			}
			var r Record
			if json.Unmarshal(line, &r) == nil && r.N > 0 {
				all = append(all, r)
			}
		}
	}
	return all, nil
}

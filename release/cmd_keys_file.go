package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/manifest"
)

func (a *app) keysNewCommand() *cobra.Command {
	var encrypt bool
	cmd := &cobra.Command{
		Use:   "new FILE",
		Short: "Make a key on this machine, for a product that is kept on another",
		Long: "Make a key file and print its public half, for 'release keys add --public' or 'release keys replace --public'\n" +
			"where the product is. No product is needed here. The secret never travels.\n\n" +
			exitHelp(codeOK, codeFailed, codeUsage, codePreflight),
		Args: cobra.ExactArgs(1),
		RunE: a.runE(func(_ context.Context, args []string) (answer, error) {
			w := a.workspace()
			key, err := manifest.NewKey()
			if err != nil {
				return nil, err
			}
			data := key.Bytes()
			if encrypt {
				passphrase, err := w.pass.fresh(keyName(args[0]))
				if err != nil {
					return nil, err
				}
				if data, err = key.Encrypt(passphrase); err != nil {
					return nil, err
				}
			}
			return newKeyMade{absolute(args[0]), key.Public().String(), key.ID()}, writeKey(w.disk, args[0], data)
		}),
	}
	cmd.Flags().BoolVar(&encrypt, "encrypt", false, "protect the file with a passphrase")
	return cmd
}

// newKeyMade is the answer of keys new.
type newKeyMade struct {
	File   string `json:"file"`
	Public string `json:"public"`
	ID     string `json:"id"`
}

func (n newKeyMade) text(w io.Writer) {
	line(w, "key", "%s", n.File)
	line(w, "public", "%s", n.Public)
	line(w, "id", "%s", n.ID)
}

const keyFilesHelp = "FILE is a key file, or the name of one in keys/. Metadata keys are kept in the format of sigstore (scrypt and\n" +
	"NaCl secretbox), artifact keys in that of minisign, which takes 1 GiB of memory and some seconds to open.\n" +
	"Passphrases come from --passphrase-file, $RELEASE_PASSPHRASE_KEY, $RELEASE_PASSPHRASE, or the terminal.\n" +
	"All files are read before the first one is written, so a wrong passphrase changes nothing.\n\n"

func (a *app) keysEncryptCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "encrypt FILE...",
		Short: "Protect key files with a passphrase",
		Long:  "Protect key files with a passphrase. " + keyFilesHelp + exitHelp(codeOK, codeFailed, codeUsage, codeNothing, codePreflight),
		Args:  cobra.MinimumNArgs(1),
		RunE: a.rewrite("encrypted", func(k secret, p *passphrases) ([]byte, error) {
			if k.encrypted {
				return nil, nil
			}
			return k.seal(p)
		}),
	}
}

func (a *app) keysDecryptCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "decrypt FILE...",
		Short: "Take the passphrase off key files",
		Long:  "Take the passphrase off key files. " + keyFilesHelp + exitHelp(codeOK, codeFailed, codeUsage, codeNothing, codePreflight),
		Args:  cobra.MinimumNArgs(1),
		RunE: a.rewrite("decrypted", func(k secret, _ *passphrases) ([]byte, error) {
			if !k.encrypted {
				return nil, nil
			}
			return k.open()
		}),
	}
}

func (a *app) keysPasswdCommand() *cobra.Command {
	next := &passphrases{flag: "--new-passphrase-file", env: newPassphraseEnv}
	cmd := &cobra.Command{
		Use:   "passwd FILE...",
		Short: "Change the passphrase of key files",
		Long: "Change the passphrase of key files. The new one comes from --new-passphrase-file, $RELEASE_NEW_PASSPHRASE, or\n" +
			"the terminal. " + keyFilesHelp + exitHelp(codeOK, codeFailed, codeUsage, codePreflight),
		Args: cobra.MinimumNArgs(1),
	}
	cmd.RunE = a.rewrite("changed", func(k secret, old *passphrases) ([]byte, error) {
		if !k.encrypted {
			return nil, refuse("key file %s has no passphrase: 'release keys encrypt' gives it one", k.file)
		}
		next.disk, next.stderr, next.asked = old.disk, old.stderr, old.asked
		return k.seal(next)
	})
	cmd.Flags().StringVar(&next.file, "new-passphrase-file", "", "file with the new passphrase")
	return cmd
}

// secret is an opened key file of either sort.
type secret struct {
	file      string
	encrypted bool // in the file
	key       manifest.Key
	artifact  *manifest.ArtifactKey
}

func (k secret) open() ([]byte, error) {
	if k.artifact != nil {
		return k.artifact.Bytes(), nil
	}
	return k.key.Bytes(), nil
}

func (k secret) seal(p *passphrases) ([]byte, error) {
	passphrase, err := p.fresh(keyName(k.file))
	if err != nil {
		return nil, err
	}
	if k.artifact != nil {
		return k.artifact.Encrypt(string(passphrase))
	}
	return k.key.Encrypt(passphrase)
}

// rewritten is the answer of keys encrypt, decrypt and passwd.
type rewritten struct {
	Done  string   `json:"done"`
	Files []string `json:"files"`
}

func (r rewritten) text(w io.Writer) {
	for _, f := range r.Files {
		line(w, r.Done, "%s", f)
	}
}

// rewrite changes the form of key files: change returns the new bytes, or nil where there is nothing to do.
func (a *app) rewrite(done string, change func(secret, *passphrases) ([]byte, error)) func(*cobra.Command, []string) error {
	return a.runE(func(_ context.Context, args []string) (answer, error) {
		w := a.workspace()
		r := rewritten{Done: done, Files: []string{}}
		fresh := map[string][]byte{}
		for _, arg := range args {
			k, err := w.openSecret(arg)
			if err != nil {
				return nil, err
			}
			data, err := change(k, w.pass)
			if err != nil {
				return nil, err
			}
			if data != nil {
				fresh[k.file] = data
				r.Files = append(r.Files, k.file)
			}
		}
		if len(r.Files) == 0 {
			return nil, nothing("%s: %s already", strings.Join(args, ", "), done)
		}
		for _, file := range r.Files {
			if err := durable.WriteFile(w.disk, file, fresh[file], 0o600); err != nil {
				return nil, fmt.Errorf("write key file %s: %w", file, err)
			}
		}
		return r, nil
	})
}

// openSecret reads a key file by its path, or by its name in keys/.
func (w *workspace) openSecret(name string) (secret, error) {
	k := secret{file: name}
	if inKeys := w.keyFile(keyName(name)); !exists(name) && filepath.Base(name) == name && exists(inKeys) {
		k.file = inKeys
	}
	data, err := readKey(w.disk, k.file)
	if err != nil {
		return k, err
	}
	k.encrypted = manifest.Encrypted(data)
	if k.key, err = w.parseKey(k.file, data); err == nil || !errors.Is(err, manifest.ErrKey) {
		return k, err
	}
	artifact, err := w.parseArtifactKey(k.file, data)
	k.artifact = &artifact
	return k, err
}

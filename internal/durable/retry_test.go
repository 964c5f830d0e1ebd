package durable

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A file that a scanner holds for a while costs patience and no more, one that it never lets go of is reported
// in time, and what is not going to pass is reported at once.
func TestRetry(t *testing.T) {
	held, gone := errors.New("held"), errors.New("gone")
	passing := func(err error) bool { return err == held }
	for _, tc := range []struct {
		name string
		free time.Duration // when the file is let go of
		err  error         // before that
		want error
		took time.Duration // at least
	}{
		{"let go in time", changePatience / 2, held, nil, changePatience / 2},
		{"never let go", time.Hour, held, held, changePatience},
		{"not going to pass", time.Hour, gone, gone, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun, tries := time.Now(), 0
				err := retry(changePatience, passing, func() error {
					if tries++; time.Since(begun) >= tc.free {
						return nil
					}
					return tc.err
				})
				if took := time.Since(begun); err != tc.want || took < tc.took || took > tc.took+time.Second {
					t.Errorf("%v after %v", err, took)
				}
				if most := 200; tries > most {
					t.Errorf("tried %d times", tries)
				}
			})
		})
	}
}

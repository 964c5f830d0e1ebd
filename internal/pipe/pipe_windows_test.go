package pipe

import "testing"

func TestProtected(t *testing.T) {
	const want = `\\.\pipe\ProtectedPrefix\Administrators\acme-control`
	for _, name := range []string{`\\.\pipe\acme-control`, want} {
		if got := Protected(name); got != want {
			t.Errorf("%s becomes %s", name, got)
		}
	}
}

package policy

import (
	"strings"
	"testing"
	"time"
)

// What expires while nobody asks is expired all the same, by the clock or by the newest signed time.
func TestExpiresMeanwhile(t *testing.T) {
	for name, change := range map[string]func(*Facts){
		"by the clock":       func(f *Facts) { f.Now = f.Offers.Expires.Add(time.Second) },
		"by the signed time": func(f *Facts) { f.Offers.SignedAt = f.Offers.Expires.Add(time.Second) },
	} {
		f := facts()
		change(&f)
		if pick, findings, _ := Choose(f, release); pick != nil || findings[0].Verdicts[0].Pass {
			t.Errorf("%s: %+v", name, findings)
		}
	}
}

// The active version that was lost may be had again, with the same bytes, from metadata that holds.
func TestLostVersion(t *testing.T) {
	lost := func() Facts {
		f := facts()
		f.Offers.List = f.Offers.List[:1]
		f.Lost = version(1).Digest
		return f
	}
	f := lost()
	f.HighWater, f.Offers.MinEpoch, f.Offers.List[0].Share, f.Offers.List[0].Yanked = 3, 3, 0, "leaks"
	if pick, findings, err := Choose(f, release); pick == nil || err != nil || pick.Version != version(1) {
		t.Errorf("%v, %v, %+v", pick, err, findings)
	}
	f.Offers.List = append([]Offer{{"1.2.0", 2, 10000, "bad"}}, f.Offers.List...)
	if pick, findings, err := Choose(f, release); pick == nil || err != nil || pick.Version != version(1) {
		t.Errorf("below a newer one that is held back: %v, %v, %+v", pick, err, findings)
	}
	f = lost()
	f.Offers.Expired = true
	if pick, _, _ := Choose(f, release); pick != nil {
		t.Error("fetched again from metadata that has expired")
	}
	f = lost()
	f.Lost = version(2).Digest
	if pick, _, _ := Choose(f, release); pick != nil {
		t.Error("something else was lost")
	}
	f = lost()
	other := func(number string) (Release, error) {
		r, err := release(number)
		r.Version.Digest = version(3).Digest
		return r, err
	}
	if pick, _, err := Choose(f, other); pick != nil || err == nil || !strings.Contains(err.Error(), "other bytes") {
		t.Errorf("other bytes under the same number: %v, %v", pick, err)
	}
}

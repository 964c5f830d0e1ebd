package manifest

import (
	"os"
	"strings"
	"testing"
)

// The examples of docs/MANIFEST.md are real: they parse, and the artifact in them is signed.
func TestDocsExamples(t *testing.T) {
	page := string(must(os.ReadFile("../docs/MANIFEST.md"))(t))
	var examples []string
	for _, part := range strings.Split(page, "```json\n")[1:] {
		text, _, _ := strings.Cut(part, "```")
		examples = append(examples, text)
	}
	if len(examples) != 3 {
		t.Fatalf("%d examples", len(examples))
	}
	trust := must(openTrust([]byte(examples[0]), "demo"))(t)
	must(openChannel([]byte(examples[1]), "demo", "stable"))(t)
	release := must(openRelease([]byte(examples[2]), "demo", "1.1.0"))(t)
	a, _ := release.Artifact("linux", "amd64")
	if err := trust.VerifyArtifact("demo", "1.1.0", a, strings.NewReader("an example program\n")); err != nil {
		t.Error(err)
	}
}

// Every refusal that the package can make is on the page.
func TestDocsRefusals(t *testing.T) {
	page := string(must(os.ReadFile("../docs/MANIFEST.md"))(t))
	for name := range sentinels {
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("%s is not explained", name)
		}
	}
}

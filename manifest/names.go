package manifest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// The top-level roles of TUF. Every other role of a repository is a channel.
const (
	RoleRoot      = metadata.ROOT
	RoleTargets   = metadata.TARGETS
	RoleSnapshot  = metadata.SNAPSHOT
	RoleTimestamp = metadata.TIMESTAMP
)

const (
	timestampName = "metadata/timestamp.json"
	trustPath     = "trust.json"
	channelBase   = "channel.json"
)

func isTopLevel(role string) bool {
	return role == RoleRoot || role == RoleTargets || role == RoleSnapshot || role == RoleTimestamp
}

// metadataName is where a version of a role's metadata lies: consistent snapshots of the TUF
// specification, section 6.2. Only timestamp.json has no number.
func metadataName(role string, version int64) string {
	if role == RoleTimestamp {
		return timestampName
	}
	return fmt.Sprintf("metadata/%d.%s.json", version, role)
}

// targetName is where the bytes of a document lie: DIRECTORY/SHA256.BASE below targets/.
func targetName(target, sha256 string) string {
	dir, base := path.Split(target)
	return "targets/" + dir + sha256 + "." + base
}

func channelPath(channel string) string          { return channel + "/" + channelBase }
func releasePath(channel, version string) string { return channel + "/" + version + ".json" }

// versionOf is the inverse of releasePath; "" for a path that names no release.
func versionOf(channel, target string) string {
	base, ok := strings.CutPrefix(target, channel+"/")
	if !ok || base == channelBase {
		return ""
	}
	version, ok := strings.CutSuffix(base, ".json")
	if !ok || CheckVersion(version) != nil {
		return ""
	}
	return version
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

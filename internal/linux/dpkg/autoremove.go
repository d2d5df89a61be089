package dpkg

import (
	"os"
	"regexp"
	"strings"

	"github.com/kernwave/kernwave/internal/linux/durable"
)

// autoremoveFile keeps apt from removing what the host may have to go back to: packages that Kernwave installed are
// needed by no other, and neither is a kernel that an update of the meta package has left behind.
const autoremoveFile = "/etc/apt/apt.conf.d/zz-kernwave"

func (d *Driver) keepFromAutoremove(releases ...string) error {
	var b strings.Builder
	b.WriteString("// Written by kernwave-agent: the kernel that the host runs and the one that it is to try.\nAPT::NeverAutoRemove {\n")
	for _, r := range releases {
		if r != "" {
			b.WriteString("\t\"^linux-.*-" + quoteForAPT(r) + "(-unsigned)?$\";\n")
		}
	}
	b.WriteString("};\n")
	path := d.path(autoremoveFile)
	if old, err := os.ReadFile(path); err == nil && string(old) == b.String() {
		return nil
	}
	return durable.Write(path, []byte(b.String()), 0o644)
}

// quoteForAPT makes a release match itself alone. A class instead of a backslash: apt reads backslashes in strings its own way.
func quoteForAPT(release string) string {
	return regexp.MustCompile(`[.+]`).ReplaceAllString(release, "[$0]")
}

package grub

import (
	"fmt"
	"strings"

	"github.com/kernwave/kernwave/internal/linux/loader"
)

// trialFile is the file beside grub.cfg that holds the trial's menu entry.
const trialFile = "kernwave.cfg"

// trialScript is /etc/grub.d/42_kernwave. It makes grub.cfg read the trial's entry, where there is one; without the
// file it does nothing.
const trialScript = `#!/bin/sh
# Written by kernwave-agent: lets GRUB find the menu entry of a kernel on trial. Does nothing without one.
cat <<'END'
if [ -f ${config_directory}/` + trialFile + ` ]; then
  source ${config_directory}/` + trialFile + `
elif [ -z "${config_directory}" -a -f $prefix/` + trialFile + ` ]; then
  source $prefix/` + trialFile + `
fi
END
`

// trialEntry copies a stock entry into one of our own, with more on the kernel's command line. Where the kernel or
// its initrd cannot be loaded, GRUB would wait for a key at its menu, for ever; ours reboots instead, and by then
// the one-shot entry is used up.
func trialEntry(stock *Entry, args []string) (string, error) {
	if err := loader.CheckArgs(args); err != nil {
		return "", err
	}
	if strings.Contains(stock.body, "\\\n") {
		return "", fmt.Errorf("the entry %q has lines that go on after a backslash: cannot be copied", stock.Path)
	}
	var b strings.Builder
	b.WriteString("# Written by kernwave-agent for one trial. It is booted when next_entry names it, and only then.\n")
	fmt.Fprintf(&b, "menuentry 'Kernwave trial of %s'%s --id %s {\n", stock.Release, keptFlags(stock.header), TrialID)
	b.WriteString("\tinsmod reboot\n")
	linux, initrd := 0, 0
	for line := range strings.Lines(stock.body) {
		line = strings.TrimRight(line, "\r\n")
		first, _, _ := strings.Cut(strings.Replace(strings.TrimSpace(line), "\t", " ", 1), " ")
		switch {
		case isLinux(first):
			linux++
			writeOrReboot(&b, withArgs(strings.TrimSpace(line), args))
		case isInitrd(first):
			initrd++
			writeOrReboot(&b, strings.TrimSpace(line))
		case first == "savedefault", first == "recordfail":
			// The first would make the trial the default, the second is about entries that boot for good.
		case first != "":
			b.WriteString("\t" + strings.TrimSpace(line) + "\n")
		}
	}
	b.WriteString("}\n")
	if cs, err := parseScript(b.String()); err != nil || len(cs) != 1 {
		return "", fmt.Errorf("the entry %q cannot be copied: %w", stock.Path, err)
	}
	if linux != 1 || initrd > 1 || (initrd == 1) != (len(stock.Initrds) > 0) {
		return "", fmt.Errorf("the entry %q has %d linux lines and %d initrd lines: cannot be copied", stock.Path, linux, initrd)
	}
	return b.String(), nil
}

func writeOrReboot(b *strings.Builder, command string) {
	fmt.Fprintf(b, "\tif %s ; then\n\t\tset kernwave_loaded=yes\n\telse\n\t\techo 'Kernwave: cannot load the kernel on trial; going back.'\n\t\treboot\n\tfi\n", command)
}

// withArgs appends to a linux line, before a -- that ends the kernel's own part.
func withArgs(line string, args []string) string {
	own, init, hasInit := strings.Cut(line, " -- ")
	line = strings.TrimRight(own, " \t") + " " + strings.Join(args, " ")
	if hasInit {
		line += " -- " + init
	}
	return line
}

// keptFlags keeps what decides who may boot the entry and how it looks.
func keptFlags(header []string) string {
	out := ""
	for i, w := range header {
		switch {
		case w == "--unrestricted":
			out += " " + w
		case (w == "--class" || w == "--users") && i+1 < len(header):
			out += " " + w + " '" + strings.ReplaceAll(header[i+1], "'", "") + "'"
		}
	}
	return out
}

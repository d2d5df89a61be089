package lab

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A Boot is one line that a host wrote on its serial console when it had come up: its own record, which no server or
// agent can change afterwards.
type Boot struct {
	Release string        `json:"release"` // uname -r
	ID      string        `json:"id"`      // boot_id
	Uptime  time.Duration `json:"uptime"`  // when it wrote the line
	RTC     time.Time     `json:"rtc"`     // its hardware clock then
}

var (
	bootLine = regexp.MustCompile(`(?m)^KERNWAVE-LAB boot release=(\S+) id=(\S+) uptime=(\S+) rtc=(\d+)\r?$`)
	escape   = regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]`)
	// GRUB says which kernel it loads. systemd-boot does not: there the kernel itself does, in its first line.
	tryLine = regexp.MustCompile(`Loading Linux (\S+) \.\.\.|Linux version (\S+) \(`)
)

// parseBoots finds the complete markers in a serial log.
func parseBoots(log string) []Boot {
	var out []Boot
	for _, m := range bootLine.FindAllStringSubmatch(log, -1) {
		up, _ := strconv.ParseFloat(m[3], 64)
		rtc, _ := strconv.ParseInt(m[4], 10, 64)
		out = append(out, Boot{m[1], m[2], time.Duration(up * float64(time.Second)), time.Unix(rtc, 0).UTC()})
	}
	return out
}

// parseTries finds the kernels that the boot loader started, whether they came up or not.
func parseTries(log string) []string {
	var out []string
	for _, m := range tryLine.FindAllStringSubmatch(log, -1) {
		out = append(out, m[1]+m[2])
	}
	return out
}

// lastTry is where the last of them begins in the log, -1 without one.
func lastTry(log string) int {
	at := -1
	if all := tryLine.FindAllStringIndex(log, -1); len(all) > 0 {
		at = all[len(all)-1][0]
	}
	return at
}

// halted says what a kernel wrote when it stopped for good, if it did.
func halted(log string) string {
	i := strings.LastIndex(log, "---[ end Kernel panic")
	if i < 0 || tryLine.MatchString(log[i:]) || strings.Contains(log, "Rebooting in ") && strings.LastIndex(log, "Rebooting in ") > strings.LastIndex(log, "Kernel panic - not syncing") {
		return ""
	}
	line, _, _ := strings.Cut(log[i:], "\n")
	return strings.Trim(line, "-[] \r")
}

// tailOf returns the last lines of a log, printable.
func tailOf(path string, n int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	data = data[max(0, len(data)-16<<10):]
	data = escape.ReplaceAll(data, nil)
	clean := strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r >= ' ' && r != 0x7f {
			return r
		}
		return -1
	}, string(data))
	var lines []string
	for l := range strings.Lines(clean) {
		if l = strings.TrimSpace(l); l != "" {
			lines = append(lines, l)
		}
	}
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

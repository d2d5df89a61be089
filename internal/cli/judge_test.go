package cli

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"charm.land/lipgloss/v2"

	"github.com/kernwave/kernwave/internal/judgecase"
)

// writeCases writes a rollout of two types, 4 treated of 24 hosts each, two hours before and two after. On "worse" the
// latency of the treated hosts rises by 30 %.
func writeCases(t *testing.T) string {
	t.Helper()
	rng := rand.New(rand.NewPCG(4, 4))
	var lines []byte
	for _, id := range []string{"r0/same", "r0/worse"} {
		c := judgecase.Case{
			Schema: judgecase.Schema, ID: id, Rollout: "r0", HostType: strings.TrimPrefix(id, "r0/"), StepS: 60, T0: 7200, End: 14400,
			Looks: []int64{9000, 10800, 14400},
			Signals: []judgecase.Signal{
				{Name: "latency", Unit: "ms", BadDirection: "increase", MarginRel: 0.1},
				{Name: "throughput", Unit: "bytes/s", BadDirection: "decrease", MarginRel: 0.1},
			},
		}
		for i := range 24 {
			h := judgecase.Host{ID: fmt.Sprintf("web-%d", i), Arm: "control", Series: map[string]judgecase.Samples{}}
			if i < 4 {
				at := int64(7200 + 60*i)
				h.Arm, h.ChangedAt = "treated", &at
			}
			for k := range 240 {
				l := (10 + float64(i)) * (1 + 0.1*rng.NormFloat64())
				if id == "r0/worse" && i < 4 && k >= 120+i {
					l *= 1.3
				}
				h.Series["latency"] = append(h.Series["latency"], max(0, l))
				h.Series["throughput"] = append(h.Series["throughput"], 1e6*max(0, 1+0.1*rng.NormFloat64()))
			}
			c.Hosts = append(c.Hosts, h)
		}
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(append(lines, b...), '\n')
	}
	name := filepath.Join(t.TempDir(), "cases.ndjson")
	if err := os.WriteFile(name, lines, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestJudgeExplain(t *testing.T) {
	cases := writeCases(t)
	code, stdout, stderr := run("judge", "explain", "--cases", cases, "r0/worse", "latency")
	if code != ExitOK || stderr != "" {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	for _, want := range []string{"regression: it is ", "+2:00 h  regression", "web-3   treated", "  change\n", "4 signals are judged together", "\n    +10 % "} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is not in:\n%s", want, stdout)
		}
	}
	if strings.Contains(stdout, "\x1b[") {
		t.Error("there are colours, and no terminal")
	}
	for line := range strings.Lines(stdout) {
		if w := lipgloss.Width(strings.TrimRight(line, "\n")); strings.ContainsAny(line, "|o:") && strings.HasPrefix(line, "      ") && w > 80 {
			t.Errorf("the plot has %d columns: %s", w, line)
		}
	}

	code, stdout, _ = run("judge", "explain", "--cases", cases, "r0/same", "throughput", "-o", "json")
	var got struct {
		Kind     string
		Verdicts []judgecase.Verdict
		Hosts    []struct{ Arm string }
		Curve    []struct{ At int64 }
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != ExitOK {
		t.Fatalf("exit code %d, %v: %s", code, err, stdout)
	}
	if got.Kind != "judge_explanation" || len(got.Verdicts) != 3 || got.Verdicts[2].Verdict != "pass" || len(got.Hosts) != 24 || len(got.Curve) != curvePoints {
		t.Errorf("%+v", got)
	}

	for _, c := range []struct{ id, signal, says string }{
		{"r0/nothing", "latency", "the cases are r0/same, r0/worse"},
		{"r0/same", "heat", "its signals are latency, throughput"},
	} {
		if code, _, stderr := run("judge", "explain", "--cases", cases, c.id, c.signal); code != ExitUsage || !strings.Contains(stderr, c.says) {
			t.Errorf("%s %s: exit code %d: %s; want %q", c.id, c.signal, code, stderr, c.says)
		}
	}
}

func TestJudgePlan(t *testing.T) {
	cases := writeCases(t)
	code, stdout, stderr := run("judge", "plan", "--history", cases)
	if code != ExitOK || !strings.Contains(stderr, "IN 4 H") {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	if !strings.Contains(stdout, "same       24     throughput  10 %    1 ") && !strings.Contains(stdout, "same       24     throughput  10 %    2 ") {
		t.Errorf("one or two canaries are enough for quiet hosts:\n%s", stdout)
	}
	code, stdout, _ = run("judge", "plan", "--history", cases, "-o", "json")
	var got struct {
		Kind  string
		Types []struct {
			Signals []struct{ Best *struct{ Canaries int } }
		}
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != ExitOK || got.Kind != "judge_plan" || len(got.Types) != 2 || got.Types[0].Signals[1].Best == nil {
		t.Errorf("exit code %d, %v: %s", code, err, stdout)
	}
	if code, _, stderr := run("judge", "plan"); code != ExitUsage || !strings.Contains(stderr, "--history") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// A compressed file that is cut off is said to be that, and not a connection that broke off.
func TestJudgeCutOff(t *testing.T) {
	whole, err := os.ReadFile(writeCases(t))
	if err != nil {
		t.Fatal(err)
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write(whole); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{5, zipped.Len() / 2} {
		file := filepath.Join(t.TempDir(), "cases.ndjson.gz")
		if err := os.WriteFile(file, zipped.Bytes()[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		code, _, stderr := run("judge", "--cases", file, "--out", filepath.Join(t.TempDir(), "verdicts.ndjson"))
		if code == 0 || !strings.Contains(stderr, "cases.ndjson.gz") || !strings.Contains(stderr, "cut off") || strings.Contains(stderr, "control plane") {
			t.Errorf("%d of %d bytes: code %d, %q; want that the file is cut off", size, zipped.Len(), code, stderr)
		}
	}
}

package judgecase

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// example is one line: 3 treated of 15 hosts, an hour before and two after, of which treated ones are up by effect.
func example(id string, effect float64) string {
	rng := rand.New(rand.NewPCG(1, 2))
	c := Case{
		Schema: Schema, ID: id, Rollout: "r", HostType: "t", StepS: 60, Start: 0, T0: 3600, End: 10800,
		Looks: []int64{3600 + 1800, 10800}, Signals: []Signal{{Name: "latency", Unit: "ms", BadDirection: "increase", MarginRel: 0.1}},
	}
	for i := range 15 {
		h := Host{ID: fmt.Sprint("h", i), Arm: "control", Series: map[string]Samples{}}
		if i < 3 {
			at := int64(3600)
			h.Arm, h.ChangedAt = "treated", &at
		}
		for k := range 180 {
			v := float64(10+i) * (1 + 0.05*rng.NormFloat64())
			if i < 3 && k >= 60 {
				v *= 1 + effect
			}
			h.Series["latency"] = append(h.Series["latency"], v)
		}
		c.Hosts = append(c.Hosts, h)
	}
	b, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	return string(b) + "\n"
}

func TestJudge(t *testing.T) {
	var out bytes.Buffer
	if err := Judge(strings.NewReader(example("same", 0)+example("worse", 0.4)), &out); err != nil {
		t.Fatal(err)
	}
	last := map[string]Verdict{}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	for _, l := range lines {
		var v Verdict
		if err := json.Unmarshal([]byte(l), &v); err != nil {
			t.Fatal(err)
		}
		last[v.Case] = v
	}
	if len(lines) != 4 || last["same"].Verdict != "pass" || last["worse"].Verdict != "regression" || *last["worse"].Effect < 0.3 {
		t.Errorf("%d lines: %s", len(lines), out.String())
	}
}

func TestBadLines(t *testing.T) {
	good := example("a", 0)
	for _, c := range []struct{ name, bad, says string }{
		{"no JSON", "{\n", "ends too early"},
		{"another schema", strings.Replace(good, "case/v1", "case/v9", 1), "schema"},
		{"no direction", strings.Replace(good, `"increase"`, `"up"`, 1), "signals[0].bad_direction"},
		{"an arm that is none", strings.Replace(good, `"arm":"treated"`, `"arm":"left"`, 1), "hosts[0].arm"},
		{"no margin", strings.Replace(good, `"margin_rel":0.1`, `"margin_rel":0`, 1), "margin_rel"},
		{"the same host twice", strings.Replace(good, `"id":"h1"`, `"id":"h0"`, 1), "twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Judge(strings.NewReader(good+c.bad), &bytes.Buffer{})
			var line *LineError
			if !errors.As(err, &line) || line.Line != 2 || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want line 2 and %q", err, c.says)
			}
		})
	}
}

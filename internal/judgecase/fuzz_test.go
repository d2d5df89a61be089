package judgecase

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// tiny is a line that can be judged: 2 treated of 6 hosts, an hour before and one after, at five minutes.
const tiny = `{"schema":"kernwave.judge.case/v1","id":"r/a","rollout":"r","host_type":"a","step_s":300,"start":0,"t0":3600,"end":7200,"looks":[5400,7200],` +
	`"signals":[{"name":"l","unit":"ms","bad_direction":"increase","margin_rel":0.1},{"name":"w","bad_direction":"decrease","margin_rel":0.1,"role":"work"}],"hosts":[` +
	`{"id":"a","arm":"treated","changed_at":3600,"series":{"l":[1,2,1,3,1,2,1,3,1,2,1,3,1,2,1,3,1,2,1,null,1,2,1,3],"w":[9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9,9]}},` +
	`{"id":"b","arm":"treated","changed_at":3700,"series":{"l":[2,2,1,3,2,2,1,3,2,2,1,3,1,2,2,3,1,2,2,4,1,2,1,3]}},` +
	`{"id":"c","arm":"control","changed_at":null,"series":{"l":[1,2,1,3,1,2,1,3,1,2,1,3,1,2,1,3,1,2,1,3,1,2,1,3]}},` +
	`{"id":"d","arm":"control","changed_at":null,"rebooted_at":3600,"series":{"l":[2,2,1,3,2,2,1,3,2,2,1,3,1,2,2,3,1,2,2,4,1,2,1,3]}},` +
	`{"id":"e","arm":"control","changed_at":null,"series":{"l":[2,2,2,3,2,2,2,3,2,2,2,3,2,2,2,3,2,2,2,4,2,2,2,3]}},` +
	`{"id":"f","arm":"control","changed_at":null,"series":{"l":[0,0,0,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,0,0,0,0]}}]}`

// FuzzJudge gives lines to the judge: it must end, name the bad ones, and say nothing of the others that contradicts itself.
func FuzzJudge(f *testing.F) {
	for _, seed := range []string{
		tiny, tiny + "\n" + strings.ReplaceAll(tiny, "r/a", "r/b"), tiny + "\n" + tiny,
		strings.ReplaceAll(tiny, "[2,2,1,3,2", "[1e308,1e-300,0,29,-0"), strings.ReplaceAll(tiny, "margin_rel\":0.1", "margin_rel\":1e-9"),
		strings.ReplaceAll(tiny, "treated", "control"), strings.ReplaceAll(tiny, "\"t0\":3600", "\"t0\":-9e18"), strings.ReplaceAll(tiny, "3600", "9e18"),
		strings.ReplaceAll(tiny, "\"t0\":3600", "\"t0\":0"), strings.ReplaceAll(tiny, "\"t0\":3600", "\"t0\":999999"), strings.ReplaceAll(tiny, "\"step_s\":300", "\"step_s\":1.5"),
		strings.ReplaceAll(tiny, "decrease", "increase"), strings.ReplaceAll(tiny, "null", "7"), "\x1f\x8b", "{}", "[]", "\n\n", `{"hosts":[{"series":{"l":"x"}}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		bad := 0
		sum, err := Run{Bad: func(e *LineError) {
			bad++
			if e.Line < 1 || e.Line > bytes.Count(in, []byte("\n"))+1 && in[0] != 0x1f || e.Error() == "" {
				t.Errorf("%d lines, and line %d is bad: %v", bytes.Count(in, []byte("\n"))+1, e.Line, e)
			}
		}}.Judge(bytes.NewReader(in), &out)
		if err != nil {
			return // no gzip
		}
		if sum.BadLines != bad {
			t.Errorf("%d bad lines were told, %d counted", bad, sum.BadLines)
		}
		lines := 0
		regressed := map[string]bool{}
		for line := range strings.Lines(out.String()) {
			lines++
			var v Verdict
			if err := json.Unmarshal([]byte(line), &v); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			cell := v.Case + "\x00" + v.Signal
			switch {
			case v.P == nil || *v.P < 0 || *v.P > 1:
				t.Errorf("p: %s", line)
			case v.Why == "":
				t.Errorf("no reason: %s", line)
			case v.Verdict == "pass" && (v.Effect == nil || v.Low == nil && v.High == nil):
				t.Errorf("a pass of nothing: %s", line)
			case v.Low != nil && v.High != nil && *v.Low > *v.High:
				t.Errorf("an interval that is none: %s", line)
			case v.MDE != nil && *v.MDE < 0:
				t.Errorf("a detectable effect below nothing: %s", line)
			case regressed[cell] && v.Verdict != "regression":
				t.Errorf("a regression was taken back: %s", line)
			}
			regressed[cell] = v.Verdict == "regression"
		}
		if lines != sum.Verdicts {
			t.Errorf("%d lines for %d verdicts", lines, sum.Verdicts)
		}
	})
}

// FuzzSamples holds the reader of series against encoding/json.
func FuzzSamples(f *testing.F) {
	for _, seed := range []string{"[]", "[1]", "[1,null , -2.5e3]", "[1,\n2]", "null", "[[1]]", "[\"1\"]", "[true]", "{}", "[1e999]"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if !json.Valid(in) {
			return
		}
		var got Samples
		var want []*float64
		errGot, errWant := json.Unmarshal(in, &got), json.Unmarshal(in, &want)
		if (errGot == nil) != (errWant == nil) {
			t.Fatalf("%s: %v, encoding/json says %v", in, errGot, errWant)
		}
		if errGot != nil {
			return
		}
		if len(got) != len(want) {
			t.Fatalf("%s: %d samples, want %d", in, len(got), len(want))
		}
		for i := range got {
			if want[i] == nil != (got[i] != got[i]) || want[i] != nil && *want[i] != got[i] {
				t.Fatalf("%s: sample %d is %v", in, i, got[i])
			}
		}
		again, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		var back Samples
		if err := json.Unmarshal(again, &back); err != nil || len(back) != len(got) {
			t.Fatalf("%s prints as %s: %v", in, again, err)
		}
	})
}

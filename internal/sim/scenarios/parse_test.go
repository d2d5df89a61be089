package scenarios

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const good = `name: night
fleet:
  types:
    - {name: web, hosts: 20}
    - {name: db, hosts: 4}
rollouts:
  - {}
`

// TestMistakes has every kind of mistake, each as the lines that a person reads.
func TestMistakes(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"an empty file", "", []string{`f:1: is empty: a scenario has a name, a fleet and rollouts; "kernwave sim show healthy" prints one`}},
		{"comments only", "# later\n\n", []string{`f:1: is empty: a scenario has a name, a fleet and rollouts; "kernwave sim show healthy" prints one`}},
		{"two documents", good + "---\n" + good, []string{"f:9: begins a second document: a file holds one scenario"}},
		{"no YAML", "name: [a\n", []string{"f:1: is no YAML: sequence end token ']' not found"}},
		{"a tab", "name: a\n\tabout: b\n", []string{"f:2: is no YAML: found a tab: YAML is indented with spaces"}},
		{"a list at the top", "- a\n", []string{`f:1: must be keys with values, not a list`}},
		{"a word at the top", "healthy\n", []string{`f:1: must be keys with values, not "healthy"`}},
		{"no UTF-8", "name: a\nabout: \xff\n", []string{"f:2: is no UTF-8 text"}},
		{"nothing but a name", "name: a\n", []string{
			"f:1: fleet.types: is missing: at least one type, such as - {name: web, hosts: 20}",
			"f:1: rollouts: is missing: at least one rollout, which may be empty: - {}",
		}},
		{"unknown keys, everywhere", "nam: x\n" + strings.ReplaceAll(good, "hosts: 20", "hots: 20") + "fault: []\nzzz: 1\n", []string{
			"f:1: nam: is not known: did you mean name? known here: name, about, for, fleet, budgets, rollouts, actions, operator, control, faults",
			"f:5: fleet.types[0].hots: is not known: did you mean hosts? known here: name, hosts, workload, kernel, boot, prepare, drain, checks, watchdog, unable",
			"f:9: fault: is not known: did you mean faults? known here: name, about, for, fleet, budgets, rollouts, actions, operator, control, faults",
			"f:10: zzz: is not known: known here: name, about, for, fleet, budgets, rollouts, actions, operator, control, faults",
		}},
		{"keys twice", good + "name: b\nfleet: {}\n", []string{
			"f:8: name: is there twice, first in line 1: keep one",
			"f:9: fleet: is there twice, first in line 2: keep one",
		}},
		{"wrong types", `name: 7
for: 5
fleet:
  datacenters: "3"
  racks: many
  types: {name: web, hosts: 3}
rollouts:
  - {soak: 1d, waves: 100, canaries: 1.5}
  - {soak: [1h], waves: [one, 100]}
operator: after
control: [1]
`, []string{
			`f:1: name: must be text, not 7: in quotes it is text`,
			`f:2: for: 5 has no unit: write it like 90s, 15m or 36h`,
			`f:4: fleet.datacenters: must be a whole number, such as 20, not the text "3"`,
			`f:5: fleet.racks: must be a whole number, such as 20, not "many"`,
			`f:6: fleet.types: must be a list, not keys with values`,
			`f:8: rollouts[0].soak: "1d" is no time: there are hours, but no days; write it like 90s, 15m or 36h`,
			`f:8: rollouts[0].waves: must be a list, not 100`,
			`f:8: rollouts[0].canaries: must be a whole number, such as 20, not 1.5`,
			`f:9: rollouts[1].soak: must be a time, such as 90s, 15m or 36h, not a list`,
			`f:9: rollouts[1].waves[0]: must be a whole number, such as 20, not "one"`,
			`f:10: operator: must be keys with values, not "after"`,
			`f:11: control: must be keys with values, not a list`,
		}},
		{"nothing where something should be", "name:\nfleet:\n  types:\n    -\nrollouts: ~\n", []string{
			"f:1: name: has no value: give it one, or leave the key out",
			"f:4: fleet.types[0]: has no value: give it one, or leave the key out",
			"f:5: rollouts: has no value: give it one, or leave the key out",
		}},
		{"negative, too large, not a number", `name: a
for: -1h
fleet:
  datacenters: -1
  types:
    - {name: web, hosts: -3, boot: -5s, unable: 2}
    - {name: db, hosts: 99999999999999999999}
    - {name: mail, hosts: 30000, kernel: {fail_checks: .nan}}
    - {name: mx, hosts: 1, kernel: {fail_checks: 1.5, boots_one_in: -2}}
rollouts:
  - {at: 100h, soak: 9999999h, waves: [5, 5], canaries: 101}
  - {at: -1s, soak: -1s, waves: [5, 50]}
  - {return_within: 1s, trial_deadline: 2000h, selector: "web"}
`, []string{
			"f:2: for: -1h is not allowed: 5m to 1440h",
			"f:4: fleet.datacenters: -1 is not allowed: 0 to 100",
			"f:6: fleet.types[0].hosts: -3 is not allowed: 1 to 20000",
			"f:6: fleet.types[0].boot: -5s is not allowed: 1s to 1h",
			"f:6: fleet.types[0].unable: 2 is not allowed: 0 to 0, as many as there are hosts",
			"f:7: fleet.types[1].hosts: 99999999999999999999 is too large",
			"f:8: fleet.types[2].kernel.fail_checks: must be a number from 0 to 1, such as 0.05, not .nan",
			"f:8: fleet.types[2].hosts: 30000 is not allowed: 1 to 20000",
			"f:9: fleet.types[3].kernel.boots_one_in: -2 is not allowed: 0 to 1000",
			"f:9: fleet.types[3].kernel.fail_checks: 1.5 is not allowed: a share from 0 to 1, such as 0.05",
			`f:11: rollouts[0].soak: "9999999h" is no time, or too long: write it like 90s, 15m or 36h`,
			"f:11: rollouts[0].at: 100h never comes: the simulation ends after 72h (for)",
			"f:11: rollouts[0].waves: 5 at position 2: shares in per cent, each larger than the one before and at most 100",
			"f:11: rollouts[0].canaries: 101 is not allowed: 0 to 100",
			"f:12: rollouts[1].at: -1s is not allowed: 0s or more",
			"f:12: rollouts[1].waves: the last is 50, it must be 100",
			"f:12: rollouts[1].soak: -1s is not allowed: 0s to 720h",
			`f:13: rollouts[2].selector: selector term 1 ("web"): must be KEY=PATTERN or KEY!=PATTERN; write it like workload=web,datacenter=dc-1`,
			"f:13: rollouts[2].return_within: 1s is not allowed: 30s to 720h",
			"f:13: rollouts[2].trial_deadline: 2000h is not allowed: 30s to 720h",
		}},
		{"a fleet that is too large together", "name: a\nfleet:\n  types:\n    - {name: a, hosts: 15000}\n    - {name: b, hosts: 15000}\nrollouts: [{}]\n", []string{
			"f:3: fleet.types: 30000 hosts in all, at most 20000 are simulated",
		}},
		{"names", "name: a b\nfleet:\n  types:\n    - {name: web, hosts: 1}\n    - {name: web, hosts: 2, workload: a/b}\n    - {name: web_1, hosts: 1}\n    - {hosts: 1}\nrollouts: [{}]\n", []string{
			`f:1: name: "a b" is not allowed: letters, digits and, inside, '-'`,
			`f:5: fleet.types[1].workload: workload="a/b": character '/' at position 2; allowed are letters, digits and, after the first, '-', '.', '_'`,
			`f:5: fleet.types[1].name: "web" is also fleet.types[0]: a type is one entry`,
			`f:6: fleet.types[2].name: "web_1" is not allowed: letters, digits and, inside, '-'`,
			`f:7: fleet.types[3].name: is missing: letters, digits and '-'`,
		}},
		{"kernels that contradict themselves", strings.Replace(good, "hosts: 20", "hosts: 20, kernel: {boots: panic, boots_one_in: 3, slow_boot: 1m}", 1) + "about: |\n  a\x1b[2Jb\n", []string{
			"f:4: fleet.types[0].kernel.boots_one_in: means nothing beside boots: panic, which never comes so far; leave one of them out",
			"f:4: fleet.types[0].kernel.slow_boot: means nothing beside boots: panic, which never comes so far; leave one of them out",
			"f:8: about: byte 2 is no printable text",
		}},
		{"budgets", good + "budgets:\n  - {by: type, limit: 0}\n  - {by: rack, limit: 1}\n  - {by: label:color, limit: 1}\n  - {limit: 1}\n  - {by: type, limit: 2}\n", []string{
			"f:9: budgets[0].limit: 0 is not allowed: 1 to 20000",
			`f:10: budgets[1].by: "rack" is no group of simulated hosts: type, label:workload, label:datacenter, label:rack`,
			`f:11: budgets[2].by: "label:color" is no group of simulated hosts: type, label:workload, label:datacenter, label:rack`,
			"f:12: budgets[3].by: is missing: type, or label:KEY such as label:rack",
			`f:13: budgets[4].by: "type" is also budgets[0]: one limit is enough`,
		}},
		{"faults", good + `faults:
  - {what: looses, share: 0.1}
  - {what: lose}
  - {what: lose, share: 2}
  - {what: delay, share: 0.1}
  - {what: silent, hosts: 25, for: 1h}
  - {what: silent, share: 0.1, for: 1h}
  - {what: crash, types: [web, wbe]}
  - {what: crash, host: web-1, hosts: 2}
  - {what: kill, hosts: 2, every: 1ms}
  - {what: restore}
  - {what: clock, by: -900000h}
  - {at: 1h}
  - {what: power-cut, at: 73h, for: 10m}
  - {what: restore, by: 24h, every: 20s}
`, []string{
			`f:9: faults[0].what: "looses" is not known: did you mean lose? one of lose, delay, repeat, silent, power-cut, crash, hang, die, kill-agent, unready, drain-fails, clock, clone-image, old-disk, kill, slow-store, failing-store, two-leaders, restore, clone-data`,
			"f:10: faults[1].share: is missing: the fault lose needs it, such as share: 0.1",
			"f:11: faults[2].share: 2 is not allowed: a share from 0 to 1, such as 0.05",
			"f:12: faults[3].by: is missing: the fault delay needs it, such as by: 30s",
			"f:13: faults[4].hosts: 25 is not allowed: 1 to 24, as many as there are to choose from",
			"f:14: faults[5].share: means nothing to the fault silent: leave it out",
			`f:15: faults[6].types[1]: "wbe" is no type of this fleet: did you mean web? web, db`,
			`f:16: faults[7].host: "web-1" is no host of this fleet: hosts are called like their type, web-0001 to web-0020`,
			"f:16: faults[7].host: names the one host: leave hosts and types out",
			"f:17: faults[8].every: 1ms is not allowed: 1s to 720h",
			"f:17: faults[8].hosts: means nothing to the fault kill: leave it out",
			"f:18: faults[9].by: is missing: the fault restore needs it, such as by: 30s",
			"f:19: faults[10].by: -900000h is not allowed: -438000h to 438000h",
			"f:20: faults[11].what: is missing: one of lose, delay, repeat, silent, power-cut, crash, hang, die, kill-agent, unready, drain-fails, clock, clone-image, old-disk, kill, slow-store, failing-store, two-leaders, restore, clone-data",
			"f:21: faults[12].at: 73h never comes: the simulation ends after 72h (for)",
			"f:21: faults[12].for: means nothing to the fault power-cut: leave it out",
			"f:22: faults[13].by: 24h is not allowed with every: 20s: 4320 backups would be kept at a time, at most 50 are",
		}},
		{"actions", good + `actions:
  - {at: 1h, do: resum}
  - {at: 1h, do: retry}
  - {at: 1h, do: pause, host: web-0001}
  - {at: 1h, do: stop, rollout: 1}
  - {at: 1h, do: pause, rollout: 2}
  - {at: 1h, do: leave-out, type: mail}
  - {at: 1h, do: pause, when: wave 5}
  - {at: 1h, do: pause, when: pausd}
  - {at: 1h, do: budget}
  - {at: 1h, do: budget, budget: {by: label:rack}}
  - {at: 1h, do: retire, host: web-0021}
`, []string{
			`f:9: actions[0].do: "resum" is not known: did you mean resume? one of pause, resume, abort, rollback, retry, skip, leave-out, stop, lift, maintenance, activate, retire, power-cycle, budget`,
			"f:10: actions[1].host: is missing: the action retry needs it",
			"f:11: actions[2].host: means nothing to the action pause: leave it out",
			"f:12: actions[3].rollout: means nothing to the action stop: leave it out",
			"f:13: actions[4].rollout: 2 is not allowed: 1 to 1, as many as there are rollouts",
			`f:14: actions[5].type: "mail" is no type of this fleet: web, db`,
			`f:15: actions[6].when: "wave 5" is not known: the rollout has waves 1 to 4`,
			`f:16: actions[7].when: "pausd" is not known: did you mean paused? canaries, wave N, or a status of the rollout: running, paused, aborting, rolling-back, done, aborted, rolled-back`,
			"f:17: actions[8].budget: is missing: the action budget needs it",
			`f:19: actions[10].host: "web-0021" is no host of this fleet: hosts are called like their type, web-0001 to web-0020`,
		}},
		{"operator and control", good + "operator: {on_pause: skp, after: 1ms}\ncontrol: {grant_life: 1s, idle_pace: 1h, operation_pace: 20s, silent_after: 5s}\n", []string{
			`f:8: operator.on_pause: "skp" is not known: did you mean skip? one of nothing, resume, retry, skip, leave-out, abort, rollback, random`,
			"f:8: operator.after: 1ms is not allowed: 1s to 720h",
			"f:9: control.grant_life: 1s is not allowed: 10s to 1h",
			"f:9: control.idle_pace: 1h is not allowed: 1s to 10m",
			"f:9: control.operation_pace: 20s is not allowed: 100ms to a quarter of the grant life of 1s",
			"f:9: control.silent_after: 5s is not allowed: twice the idle pace of 1h, to 24h",
		}},
		{"aliases", "name: &a night\nabout: *a\nfleet: {types: [{name: web, hosts: 1}]}\nrollouts: [{<<: {}}, !!str x]\n", []string{
			"f:1: name: is an alias, anchor or tag, which are not read here: write the value out",
			"f:2: about: is an alias, anchor or tag, which are not read here: write the value out",
			"f:4: rollouts[0]: a key must be plain text: one of at, selector, waves, soak, canaries, return_within, trial_deadline",
			"f:4: rollouts[1]: is an alias, anchor or tag, which are not read here: write the value out",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("f", []byte(c.text))
			if err == nil {
				t.Fatal("it was read")
			}
			if diff := cmp.Diff(c.want, strings.Split(err.Error(), "\n")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestBombs: what is made to take long, or memory, is refused before a parser sees it, or is small.
func TestBombs(t *testing.T) {
	aliases := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		aliases += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c-1), 9), ","))
	}
	for name, text := range map[string]string{
		"aliases of aliases":   aliases,
		"deep flow":            strings.Repeat("[", 5000),
		"deep flow, in lines":  strings.Repeat("[\n", 5000),
		"deep maps":            strings.Repeat("{a: ", 5000),
		"deep block":           deepBlock(5000),
		"deep lists":           strings.Repeat("- ", 5000) + "a",
		"huge":                 strings.Repeat("a", 10<<20),
		"many keys":            manyLines("k%d: 1", 5000),
		"one key, many times":  strings.Repeat("a: 1\n", 10000),
		"many items":           "rollouts:\n" + strings.Repeat("- {}\n", 10000),
		"many empty documents": strings.Repeat("---\n", 10000),
		"quotes":               strings.Repeat(`"`, 60000),
		"colons":               strings.Repeat(":", 60000),
		"question marks":       strings.Repeat("? ", 30000),
		"bars":                 strings.Repeat("a: |\n", 12000),
		"zero bytes":           strings.Repeat("\x00", 60000),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("f", []byte(text))
			if m, ok := errors.AsType[*Mistakes](err); !ok || len(m.List) == 0 {
				t.Fatalf("it was read: %v", err)
			}
		})
	}
}

func deepBlock(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
		if b.Len() > MaxBytes-i {
			break
		}
	}
	return b.String()
}

func manyLines(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format+"\n", i)
	}
	return b.String()
}

// What is read prints back to the same.
func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	for _, name := range Names() {
		b, _ := Text(name)
		f.Add(b)
	}
	for _, s := range []string{
		"", "name: a\nabout: \"a\\n\\u00e9 # b: c\"\nfleet: {types: [{name: web, hosts: 1, kernel: {network_lost_after: 0s, fail_checks: 1e-9}}]}\nrollouts: [{soak: 0}]\n",
		"name: x\nabout: >-\n  folded\n  text\n\n  more\nfleet:\n  types:\n  - name: \"null\"\n    hosts: 1\n    watchdog: -1s\nrollouts:\n- {waves: [1,100], at: 1.5h}\n",
		"? a\n: b", "a: *a", "- - -", "name: 'it''s'", "\t", "{", "name: !!str x", "%YAML 1.2\n---\nname: x", "name: a # b\n...\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse("f", b)
		if err != nil {
			m, ok := errors.AsType[*Mistakes](err)
			if !ok || len(m.List) == 0 {
				t.Fatalf("%q: %v says nothing", b, err)
			}
			lines := strings.Count(string(b), "\n") + strings.Count(string(b), "\r") + 2
			for _, x := range m.List {
				if x.Why == "" || x.Line < 0 || x.Line > lines || strings.ContainsAny(x.In("f"), "\n") {
					t.Fatalf("%q: %+v of %d lines", b, x, lines)
				}
			}
			return
		}
		again, err := Parse("f", Print(s))
		if err != nil {
			t.Fatalf("%q: was read, but not what it prints: %v\n%s", b, err, Print(s))
		}
		if diff := cmp.Diff(s, again); diff != "" {
			t.Fatalf("%q prints as\n%s\n%s", b, Print(s), diff)
		}
	})
}

// TestPrint shows the form, which is that of the files that are shipped.
func TestPrint(t *testing.T) {
	s, err := Parse("f", []byte(good+"about: two words\nbudgets: [{by: label:rack, limit: 2}]\nfaults: [{what: crash, types: [web, db], every: 90m}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := `name: night
about: "two words"
fleet:
  types:
    - {name: web, hosts: 20}
    - {name: db, hosts: 4}
budgets:
  - {by: label:rack, limit: 2}
rollouts:
  - {}
faults:
  - {what: crash, every: 1h30m, types: [web, db]}
`
	if diff := cmp.Diff(want, string(Print(s))); diff != "" {
		t.Error(diff)
	}
}

package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"time"
)

// qmpLimit bounds one command to QEMU. It answers in milliseconds; a machine that swaps needs longer.
const qmpLimit = 20 * time.Second

// qmp runs one command in the QEMU whose folder is dir.
func qmp(ctx context.Context, dir, command string, args any) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, qmpLimit)
	defer cancel()
	c, err := dialIn(ctx, dir, "qmp.sock")
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	dec, enc := json.NewDecoder(c), json.NewEncoder(c)
	var greeting struct{ QMP json.RawMessage }
	if err := dec.Decode(&greeting); err != nil {
		return nil, fmt.Errorf("qmp greeting: %w", err)
	}
	type request struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}
	var last json.RawMessage
	for _, r := range []request{{Execute: "qmp_capabilities"}, {command, args}} {
		if err := enc.Encode(r); err != nil {
			return nil, fmt.Errorf("qmp %s: %w", r.Execute, err)
		}
		for {
			var reply struct {
				Return json.RawMessage
				Error  *struct{ Desc string }
				Event  string
			}
			if err := dec.Decode(&reply); err != nil {
				return nil, fmt.Errorf("qmp %s: %w", r.Execute, err)
			}
			if reply.Error != nil {
				return nil, fmt.Errorf("qmp %s: %s", r.Execute, reply.Error.Desc)
			}
			if reply.Event == "" {
				last = reply.Return
				break
			}
		}
	}
	return last, nil
}

// runState is QEMU's word for what the machine does: running, paused, internal-error…
func runState(ctx context.Context, dir string) (string, error) {
	raw, err := qmp(ctx, dir, "query-status", nil)
	if err != nil {
		return "", err
	}
	var s struct{ Status string }
	err = json.Unmarshal(raw, &s)
	return s.Status, err
}

// registers is what QEMU says of the processor of the machine in dir.
func registers(ctx context.Context, dir string) (text string, err error) {
	raw, err := qmp(ctx, dir, "human-monitor-command", map[string]string{"command-line": "info registers"})
	if err == nil {
		err = json.Unmarshal(raw, &text)
	}
	return text, err
}

// whereIs finds among the registers what tells where a silent machine is: its stack (one that ran over is why firmware dies), its instruction, and whether it sleeps (HLT=1).
var whereIs = regexp.MustCompile(`[RE][SI]P=[0-9a-f]+|HLT=[01]`)

// whereabouts says what the machine in dir does, and where it is twice within half a second: a kernel or a firmware that
// hangs writes nothing. Empty: it cannot be asked.
func whereabouts(dir string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second) // the caller's own time may be over
	defer cancel()
	state, err := runState(ctx, dir)
	if err != nil {
		return ""
	}
	for i := range 2 {
		if i > 0 {
			time.Sleep(500 * time.Millisecond)
		}
		text, err := registers(ctx, dir)
		if err != nil {
			return state
		}
		for _, r := range whereIs.FindAllString(text, 3) {
			state += " " + r
		}
	}
	return state
}

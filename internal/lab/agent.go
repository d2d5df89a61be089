package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"
)

// syncLimit is how long the guest agent may take for its first answer on a connection before another connection is
// tried: at first, then twice as long each time, for a question may be lost in a restart, and a busy host may be slow.
const syncLimit = 5 * time.Second

// errRefused is an answer of the guest agent that says no, as opposed to no answer.
var errRefused = errors.New("the guest agent refused")

// agentConn speaks the QEMU guest agent's protocol. The line to the guest is shared by everyone who asks, one
// connection at a time, so connections are short.
type agentConn struct {
	c net.Conn
	r *bufio.Reader
}

// dialAgent connects to the agent of the host in dir, and makes sure that answers belong to this connection's
// questions: what an earlier one left in the line is skipped.
func dialAgent(ctx context.Context, dir string, answer time.Duration) (*agentConn, error) {
	c, err := dialIn(ctx, dir, "agent.sock")
	if err != nil {
		return nil, err
	}
	a := &agentConn{c: c, r: bufio.NewReaderSize(c, 64<<10)}
	_ = c.SetDeadline(time.Now().Add(answer))
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	id := rand.Int32()
	if _, err := fmt.Fprintf(c, "\xff"+`{"execute":"guest-sync-delimited","arguments":{"id":%d}}`+"\n", id); err != nil {
		c.Close()
		return nil, err
	}
	for {
		if _, err := a.r.ReadSlice(0xff); err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			c.Close()
			return nil, fmt.Errorf("guest agent does not answer: %w", err)
		}
		line, err := a.r.ReadBytes('\n')
		if err != nil {
			c.Close()
			return nil, fmt.Errorf("guest agent does not answer: %w", err)
		}
		var reply struct{ Return int32 }
		if json.Unmarshal(line, &reply) == nil && reply.Return == id {
			return a, nil
		}
	}
}

func (a *agentConn) Close() { a.c.Close() }

// call asks one question. limit bounds the wait for the answer.
func (a *agentConn) call(command string, args, result any, limit time.Duration) error {
	_ = a.c.SetDeadline(time.Now().Add(limit))
	q, err := json.Marshal(map[string]any{"execute": command, "arguments": args})
	if err != nil {
		return err
	}
	if _, err := a.c.Write(append(q, '\n')); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	line, err := a.r.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	var reply struct {
		Return json.RawMessage
		Error  *struct{ Desc string }
	}
	if err := json.Unmarshal(line, &reply); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	if reply.Error != nil {
		return fmt.Errorf("%s: %w: %s", command, errRefused, reply.Error.Desc)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(reply.Return, result)
}

// readFile reads a small file without starting a program in the guest.
func (a *agentConn) readFile(path string) (string, error) {
	var handle int
	if err := a.call("guest-file-open", map[string]any{"path": path, "mode": "r"}, &handle, callLimit); err != nil {
		return "", err
	}
	var got struct {
		Buf []byte `json:"buf-b64"`
	}
	err := a.call("guest-file-read", map[string]any{"handle": handle, "count": 4096}, &got, callLimit)
	err = errors.Join(err, a.call("guest-file-close", map[string]any{"handle": handle}, nil, callLimit))
	return string(got.Buf), err
}

// writeFile writes a file in pieces that an emulated machine parses quickly.
func (a *agentConn) writeFile(path string, r io.Reader) error {
	var handle int
	if err := a.call("guest-file-open", map[string]any{"path": path, "mode": "w"}, &handle, callLimit); err != nil {
		return err
	}
	buf := make([]byte, 48<<10)
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			args := map[string]any{"handle": handle, "buf-b64": buf[:n]}
			if err := a.call("guest-file-write", args, nil, callLimit); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	return a.call("guest-file-close", map[string]any{"handle": handle}, nil, callLimit)
}

package volatile

import (
	"bytes"
	"encoding/binary"
	"io"
	"os/exec"
	"path/filepath"
	"testing"
)

// QEMU's own client, as in the lab's machines: what it flushed or forced is there after a cut.
func TestQEMUReadsWritesAndFlushes(t *testing.T) {
	qemuIO, err := exec.LookPath("qemu-io")
	if err != nil {
		t.Skip("needs qemu-io of the package qemu-utils: " + err.Error())
	}
	d := newDisk(t)
	socket := filepath.Join(t.TempDir(), "disk.sock")
	s, err := Serve(socket, d)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	do := func(commands ...string) {
		t.Helper()
		args := []string{"-f", "raw", "-t", "writeback", "nbd+unix:///?socket=" + socket}
		for _, c := range commands {
			args = append(args, "-c", c)
		}
		if out, err := exec.Command(qemuIO, args...).CombinedOutput(); err != nil || bytes.Contains(out, []byte("error")) {
			t.Fatalf("qemu-io: %v\n%s", err, out)
		}
	}
	do("write -P 1 0 4k", "flush", "write -f -P 2 4k 4k", "write -P 3 8k 1k", "read -P 3 8k 1k", "read -P 1 0 4k")
	if st := d.Stats(); st.Flushes == 0 || st.Forced != 1 {
		t.Errorf("%+v: the client's flushes and forced writes did not arrive", st)
	}
	// qemu-io flushes when it ends; this is not flushed any more.
	if err := d.Write(bytes.Repeat([]byte{4}, 1024), 8<<10, false); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Cut(nil); err != nil {
		t.Fatal(err)
	}
	do("read -P 1 0 4k", "read -P 2 4k 4k", "read -P 3 8k 1k")
}

// pipe is a client that has said everything beforehand.
type pipe struct {
	io.Reader
	said bytes.Buffer
}

func (p *pipe) Write(b []byte) (int, error) { return p.said.Write(b) }

// hello is a client's way to the requests.
func hello() []byte {
	b := []byte{0, 0, 0, noZeroes}
	b = binary.BigEndian.AppendUint64(b, optionMagic)
	b = binary.BigEndian.AppendUint32(b, optGo)
	b = binary.BigEndian.AppendUint32(b, 6)
	return append(b, 0, 0, 0, 0, 0, 0)
}

func ask(kind uint16, at uint64, n uint32) []byte {
	b := binary.BigEndian.AppendUint32(nil, requestMagic)
	b = binary.BigEndian.AppendUint16(b, 0)
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint64(b, 7)
	b = binary.BigEndian.AppendUint64(b, at)
	return binary.BigEndian.AppendUint32(b, n)
}

func TestRequestsBeyondTheDiskAreRefused(t *testing.T) {
	for _, at := range []uint64{testSize, testSize - 1, 1 << 63, 1<<64 - 1} {
		p := &pipe{Reader: bytes.NewReader(append(append(hello(), ask(cmdRead, at, 2)...), ask(cmdDisconnect, 0, 0)...))}
		if err := serve(p, newDisk(t)); err != nil {
			t.Errorf("at %d: %v", at, err)
			continue
		}
		answer := p.said.Bytes()[p.said.Len()-16:]
		if code := binary.BigEndian.Uint32(answer[4:]); code != errInvalid {
			t.Errorf("at %d: the answer has code %d, want %d", at, code, errInvalid)
		}
	}
}

// A client's bytes never panic, and never get more than the disk has.
func FuzzClient(f *testing.F) {
	f.Add(append(hello(), ask(cmdFlush, 0, 0)...))
	f.Add(append(hello(), ask(cmdRead, 512, 512)...))
	f.Add(append(append(hello(), ask(cmdWrite, 0, 4)...), 1, 2, 3, 4))
	f.Add(hello()[:9])
	f.Fuzz(func(t *testing.T, b []byte) {
		p := &pipe{Reader: bytes.NewReader(b)}
		_ = serve(p, newDisk(t))
		if !bytes.HasPrefix(p.said.Bytes(), []byte("NBDMAGICIHAVEOPT")) {
			t.Errorf("the server began with %q", p.said.Bytes()[:min(16, p.said.Len())])
		}
	})
}

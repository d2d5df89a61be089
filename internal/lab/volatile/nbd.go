package volatile

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
)

// The parts of the NBD protocol (github.com/NetworkBlockDevice/nbd, doc/proto.md) that QEMU needs.
const (
	nbdMagic     = 0x4e42444d41474943 // NBDMAGIC
	optionMagic  = 0x49484156454F5054 // IHAVEOPT
	replyMagic   = 0x0003e889045565a9
	requestMagic = 0x25609513
	answerMagic  = 0x67446698

	fixedNewStyle, noZeroes = 1 << 0, 1 << 1

	optExportName, optAbort, optInfo, optGo = 1, 2, 6, 7
	repAck, repInfo, repUnsupported         = 1, 3, 1<<31 + 1

	// hasFlags, sendFlush, sendFUA: what the export can do.
	exportFlags = 1<<0 | 1<<2 | 1<<3

	cmdRead, cmdWrite, cmdDisconnect, cmdFlush = 0, 1, 2, 3
	cmdForce                                   = 1 << 0

	errIO, errInvalid = 5, 22

	// maxOption and maxRequest bound what a client may send at once. QEMU stays within 32 MiB.
	maxOption  = 4 << 10
	maxRequest = 32 << 20
)

// A Server gives a disk to whoever connects.
type Server struct {
	disk    *Disk
	ln      net.Listener
	running sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool // nil once closed
}

// Serve listens on a Unix socket, replacing one that an earlier process left behind. Its path may be longer than the
// 107 bytes that a socket's address has room for: QEMU finds it from its folder.
func Serve(socket string, d *Disk) (*Server, error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	dir, err := os.Open(filepath.Dir(socket))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(socket))})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false) // by then the number of the folder's descriptor is another file's
	s := &Server{disk: d, ln: ln, conns: map[net.Conn]bool{}}
	s.running.Go(s.accept)
	return s, nil
}

// Close ends all connections and waits for that. The disk stays open.
func (s *Server) Close() error {
	err := s.ln.Close()
	s.mu.Lock()
	conns := s.conns
	s.conns = nil
	s.mu.Unlock()
	for c := range conns {
		_ = c.Close() // its goroutine sees that
	}
	s.running.Wait()
	return err
}

func (s *Server) accept() {
	for {
		c, err := s.ln.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		closed := s.conns == nil
		if !closed {
			s.conns[c] = true
		}
		s.mu.Unlock()
		if closed {
			_ = c.Close()
			return
		}
		s.running.Go(func() {
			_ = serve(c, s.disk) // a client that is gone: QEMU was killed, which is what this is for
			_ = c.Close()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		})
	}
}

// serve speaks with one client until it leaves, or says something that cannot be answered.
func serve(c io.ReadWriter, d *Disk) error {
	r, w := bufio.NewReaderSize(c, 64<<10), bufio.NewWriterSize(c, 64<<10)
	if ok, err := agree(r, w, d.Size()); !ok || err != nil {
		return err
	}
	for {
		if r.Buffered() == 0 {
			if err := w.Flush(); err != nil {
				return err
			}
		}
		done, err := request(r, w, d)
		if err != nil {
			return err
		}
		if done {
			return w.Flush()
		}
	}
}

// agree negotiates; false: the client does not want the disk.
func agree(r io.Reader, w *bufio.Writer, size int64) (bool, error) {
	hello := binary.BigEndian.AppendUint64(nil, nbdMagic)
	hello = binary.BigEndian.AppendUint64(hello, optionMagic)
	hello = binary.BigEndian.AppendUint16(hello, fixedNewStyle|noZeroes)
	if err := send(w, hello); err != nil {
		return false, err
	}
	var flags [4]byte
	if _, err := io.ReadFull(r, flags[:]); err != nil {
		return false, err
	}
	export := binary.BigEndian.AppendUint64(nil, uint64(size))
	export = binary.BigEndian.AppendUint16(export, exportFlags)
	for {
		var head [16]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return false, err
		}
		option, n := binary.BigEndian.Uint32(head[8:]), binary.BigEndian.Uint32(head[12:])
		if binary.BigEndian.Uint64(head[:]) != optionMagic || n > maxOption {
			return false, fmt.Errorf("not an option: % x", head)
		}
		if _, err := io.CopyN(io.Discard, r, int64(n)); err != nil { // names: there is one export
			return false, err
		}
		switch option {
		case optExportName:
			if flags[3]&noZeroes == 0 {
				export = append(export, make([]byte, 124)...)
			}
			return true, send(w, export)
		case optAbort:
			return false, send(w, optionReply(option, repAck, nil))
		case optInfo, optGo:
			info := append([]byte{0, 0}, export...) // NBD_INFO_EXPORT
			if err := send(w, append(optionReply(option, repInfo, info), optionReply(option, repAck, nil)...)); err != nil {
				return false, err
			}
			if option == optGo {
				return true, nil
			}
		default:
			if err := send(w, optionReply(option, repUnsupported, nil)); err != nil {
				return false, err
			}
		}
	}
}

func send(w *bufio.Writer, b []byte) error {
	if _, err := w.Write(b); err != nil {
		return err
	}
	return w.Flush()
}

func optionReply(option, kind uint32, data []byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, replyMagic)
	b = binary.BigEndian.AppendUint32(b, option)
	b = binary.BigEndian.AppendUint32(b, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

// request reads and answers one; true: the client has said goodbye.
func request(r io.Reader, w io.Writer, d *Disk) (bool, error) {
	var head [28]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return false, err
	}
	flags, kind := binary.BigEndian.Uint16(head[4:]), binary.BigEndian.Uint16(head[6:])
	at, n := int64(binary.BigEndian.Uint64(head[16:])), binary.BigEndian.Uint32(head[24:])
	if binary.BigEndian.Uint32(head[:]) != requestMagic || n > maxRequest {
		return false, fmt.Errorf("not a request: % x", head)
	}
	var data []byte
	var code uint32
	var err error
	switch kind {
	case cmdRead:
		data = make([]byte, n)
		_, err = d.ReadAt(data, at)
	case cmdWrite:
		buf := make([]byte, n) // kept by the disk
		if _, err := io.ReadFull(r, buf); err != nil {
			return false, err
		}
		err = d.Write(buf, at, flags&cmdForce != 0)
	case cmdFlush:
		err = d.Flush()
	case cmdDisconnect:
		return true, nil
	default:
		code = errInvalid
	}
	switch {
	case errors.Is(err, errBeyond):
		code, data = errInvalid, nil
	case err != nil:
		code, data = errIO, nil
	}
	answer := binary.BigEndian.AppendUint32(nil, answerMagic)
	answer = binary.BigEndian.AppendUint32(answer, code)
	answer = append(answer, head[8:16]...)
	if _, err := w.Write(answer); err != nil {
		return false, err
	}
	_, err = w.Write(data)
	return false, err
}

package cachetest

import (
	"net"
	"sync"
)

// Proxy stands before a server and lets a test see, hold and cut what goes through.
type Proxy struct {
	Addr string
	to   string
	// Send, if set before the first connection, is called with each piece from a client, which goes on when it returns.
	send func(piece []byte)

	mu    sync.Mutex
	conns map[net.Conn]bool
	cut   bool
}

// StartProxy starts one before addr on 127.0.0.1. send may be nil.
func StartProxy(t TB, addr string, send func(piece []byte)) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("%v", err)
	}
	p := &Proxy{Addr: l.Addr().String(), to: addr, send: send, conns: map[net.Conn]bool{}}
	t.Cleanup(func() { _ = l.Close(); p.Cut(true) })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

// Cut ends every connection and refuses new ones, or lets them through again.
func (p *Proxy) Cut(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
	if cut {
		for c := range p.conns {
			_ = c.Close()
		}
	}
}

// keep says whether a connection may be.
func (p *Proxy) keep(cs ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range cs {
		p.conns[c] = true
	}
	return !p.cut
}

func (p *Proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer server.Close()
	if !p.keep(client, server) {
		return
	}
	go func() { // answers
		defer client.Close()
		defer server.Close()
		pump(client, server, nil)
	}()
	pump(server, client, p.send)
}

func pump(to, from net.Conn, each func([]byte)) {
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if n > 0 {
			if each != nil {
				each(b[:n])
			}
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

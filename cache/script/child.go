package script

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/resp"
	"go.starlark.net/lib/json"
	"go.starlark.net/lib/math"
	"go.starlark.net/resolve"
	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"
	"go.starlark.net/syntax"
)

// childWord is the argument that makes this program the child.
const childWord = "kernwave-cache-script-child"

// How a child ends that could not say why.
const (
	exitMemory = 40 // its values took more than its budget
	exitWall   = 41 // it outlived its budget, and whoever should have ended it
	exitBroken = 42 // it could not be confined, or did not understand its parent
)

// RunIfChild runs one program and ends the process, if this process was started for that; else it returns at once. A
// program that uses this package calls it first of all.
func RunIfChild() {
	if len(os.Args) != 2 || os.Args[1] != childWord {
		return
	}
	if err := child(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitBroken)
	}
	os.Exit(0)
}

// extra are functions that tests give to programs, to attack the confinement from within.
var extra starlark.StringDict

// child reads its order, confines itself, and runs.
func child() error {
	in := resp.NewReader(os.Stdin, resp.Limits{})
	order, err := in.Next()
	if err != nil {
		return fmt.Errorf("read the order: %w", err)
	}
	wall := time.Duration(order.Get("wall_ms").Int) * time.Millisecond
	memory := order.Get("memory").Int
	debug.SetMaxStack(32 << 20)
	debug.SetGCPercent(50)
	runtime.GOMAXPROCS(2) // one for the program, one for those who watch it
	time.AfterFunc(wall+time.Second, func() { os.Exit(exitWall) })
	if err := confine(wall, memory, order.Get("deadline_ns").Int); err != nil {
		return fmt.Errorf("confine the program: %w", err)
	}
	go watchMemory(memory)
	p := &program{in: in, out: resp.NewWriter(os.Stdout, 3)}
	if err := p.run(order); err != nil {
		p.out.Command("FAIL", explain(err))
	} else {
		p.out.Command("DONE")
	}
	return p.out.Flush()
}

// watchMemory ends the process when its values take more than they may. Between two looks a single large value may
// appear: the limit of the address space, which is wider, stops that.
func watchMemory(most int64) {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	for {
		metrics.Read(s)
		if used := s[0].Value.Uint64(); used > uint64(most)+16<<20 { // what the runtime and the interpreter take
			runtime.GC()
			metrics.Read(s)
			if s[0].Value.Uint64() > uint64(most)+16<<20 {
				os.Exit(exitMemory)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// explain is err with the lines of the program that led to it.
func explain(err error) string {
	if e, ok := errors.AsType[*starlark.EvalError](err); ok {
		where := ""
		for i := range e.CallStack {
			if f := e.CallStack.At(i); f.Pos.Filename() == programFile {
				where = fmt.Sprintf("%s:%d: ", programFile, f.Pos.Line)
				break
			}
		}
		return where + e.Msg
	}
	if e, ok := errors.AsType[syntax.Error](err); ok {
		return fmt.Sprintf("%s:%d: %s", programFile, e.Pos.Line, e.Msg)
	}
	if e, ok := errors.AsType[resolve.ErrorList](err); ok {
		var all []string
		for _, one := range e {
			all = append(all, fmt.Sprintf("%s:%d: %s", programFile, one.Pos.Line, one.Msg))
		}
		return strings.Join(all, "; ")
	}
	return err.Error()
}

// program is what the child knows: it asks its parent for everything.
type program struct {
	in  *resp.Reader
	out *resp.Writer
}

// ask sends a request and waits for the answer.
func (p *program) ask(words ...string) (cache.Value, error) {
	p.out.Command(words...)
	if err := p.out.Flush(); err != nil {
		os.Exit(exitBroken) // nobody is there
	}
	v, err := p.in.Next()
	if err != nil {
		os.Exit(exitBroken)
	}
	if v.Kind == cache.Err {
		return v, errors.New(v.Str)
	}
	return v, nil
}

// tell sends what needs no answer.
func (p *program) tell(words ...string) error {
	p.out.Command(words...)
	if p.out.Err() != nil {
		os.Exit(exitBroken)
	}
	return nil
}

func (p *program) run(order cache.Value) error {
	opts := &syntax.FileOptions{Set: true}
	text := order.Get("program").Str
	predeclared := starlark.StringDict{
		"json": json.Module, "math": math.Module,
		"emit": starlark.NewBuiltin("emit", p.emit), "progress": starlark.NewBuiltin("progress", p.progress),
		"plan": &starlarkstruct.Module{Name: "plan", Members: starlark.StringDict{
			"unlink": starlark.NewBuiltin("plan.unlink", p.unlink), "expire": starlark.NewBuiltin("plan.expire", p.expire),
		}},
	}
	for name, v := range extra {
		predeclared[name] = v
	}
	_, prog, err := starlark.SourceProgramOptions(opts, programFile, text, predeclared.Has)
	if err != nil {
		return err
	}
	thread := &starlark.Thread{
		Name:  "run",
		Print: func(*starlark.Thread, string) {}, // there is nobody to read it
		Load: func(*starlark.Thread, string) (starlark.StringDict, error) {
			return nil, errors.New("a program is one file: load is not allowed")
		},
		OnMaxSteps: func(t *starlark.Thread) { t.Cancel("BUDGET steps") },
	}
	thread.SetMaxExecutionSteps(uint64(order.Get("steps").Int))
	globals, err := prog.Init(thread, predeclared)
	if err != nil {
		return err
	}
	globals.Freeze()
	fn, ok := globals["run"].(*starlark.Function)
	if !ok || fn.NumParams() != 2 || fn.HasVarargs() || fn.HasKwargs() {
		return fmt.Errorf("%s:1: there is no function run(args, nodes)", programFile)
	}
	if order.Get("check").Int != 0 {
		return nil
	}
	args := starlark.StringDict{}
	for i := 0; i+1 < len(order.Get("args").Items); i += 2 {
		kv := order.Get("args").Items[i:]
		args[kv[0].Str] = fromValue(kv[1])
	}
	nodes := starlark.NewList(nil)
	for i, n := range order.Get("nodes").Items {
		if err := nodes.Append(&node{p: p, index: fmt.Sprint(i), about: n}); err != nil {
			return err
		}
	}
	_, err = starlark.Call(thread, fn, starlark.Tuple{starlarkstruct.FromStringDict(starlarkstruct.Default, args), nodes}, nil)
	return err
}

func (p *program) emit(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kw []starlark.Tuple) (starlark.Value, error) {
	if len(args) > 0 || len(kw) == 0 {
		return nil, fmt.Errorf("%s: name each column: emit(key = k, bytes = n)", b.Name())
	}
	row := cache.Value{Kind: cache.Map}
	for _, pair := range kw {
		v, err := toValue(pair[1], 0)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", b.Name(), string(pair[0].(starlark.String)), err)
		}
		row.Add(string(pair[0].(starlark.String)), v)
	}
	var text strings.Builder
	w := resp.NewWriter(&text, 3)
	w.Value(row)
	if err := w.Flush(); err != nil {
		return nil, err
	}
	return starlark.None, p.tell("ROW", text.String())
}

func (p *program) progress(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kw []starlark.Tuple) (starlark.Value, error) {
	var text string
	if err := starlark.UnpackArgs(b.Name(), args, kw, "text", &text); err != nil {
		return nil, err
	}
	return starlark.None, errors.Join(p.tell("PROGRESS", text), p.out.Flush())
}

func (p *program) unlink(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kw []starlark.Tuple) (starlark.Value, error) {
	var n *node
	var key string
	if err := starlark.UnpackArgs(b.Name(), args, kw, "node", &n, "key", &key); err != nil {
		return nil, err
	}
	return starlark.None, p.tell("PLAN", "unlink", n.index, key, "0")
}

func (p *program) expire(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kw []starlark.Tuple) (starlark.Value, error) {
	var n *node
	var key string
	var seconds int64
	if err := starlark.UnpackArgs(b.Name(), args, kw, "node", &n, "key", &key, "seconds", &seconds); err != nil {
		return nil, err
	}
	if seconds < 1 {
		return nil, fmt.Errorf("%s: seconds: %d is below 1; use plan.unlink to remove a key", b.Name(), seconds)
	}
	return starlark.None, p.tell("PLAN", "expire", n.index, key, fmt.Sprint(seconds))
}

package wire_test

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

func everyFieldSet(t *testing.T, m proto.Message, but map[string]bool) {
	t.Helper()
	walk(t, m.ProtoReflect(), but)
}

func walk(t *testing.T, m protoreflect.Message, but map[string]bool) {
	t.Helper()
	if m.Descriptor().ParentFile().Package() != "kernwave.v1" {
		return
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !m.Has(f) {
			if !but[string(f.FullName())] {
				t.Errorf("%s is never filled", f.FullName())
			}
			continue
		}
		switch {
		case f.IsMap():
		case f.IsList() && f.Kind() == protoreflect.MessageKind:
			l := m.Get(f).List()
			for j := range l.Len() {
				walk(t, l.Get(j).Message(), but)
			}
		case f.Kind() == protoreflect.MessageKind:
			walk(t, m.Get(f).Message(), but)
		}
	}
}

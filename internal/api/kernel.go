package api

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"connectrpc.com/connect"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/internal/wire"
)

// kernelService is about the kernels that can be rolled.
type kernelService struct{ *Server }

// maxPackages is the most packages of one kernel: image, modules, headers, firmware and a few more.
const maxPackages = 32

// What names may be made of. They end up in file names, boot entries and commands on every host.
var (
	kernelWord  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.+~_-]{0,127}$`)
	versionWord = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.+~:_-]{0,127}$`)
	packageWord = regexp.MustCompile(`^[a-z0-9][a-z0-9.+_-]{0,127}$`)
	sha256Hex   = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// AddKernel records a kernel whose packages were uploaded before. The same again changes nothing.
func (s kernelService) AddKernel(ctx context.Context, req *connect.Request[kwv1.AddKernelRequest]) (*connect.Response[kwv1.Kernel], error) {
	const op = "add the kernel"
	k := wire.KernelFromProto(req.Msg.GetKernel())
	if k.ID == "" {
		k.ID = fleet.KernelID(k.Release)
	}
	if err := checkKernel(k, s.cfg.MaxBlob); err != nil {
		return nil, &fleet.Error{Op: op, Err: operator.Refuse(operator.ErrInvalid, err), Next: "check the packages; kernwave kernel add reads all of this from them"}
	}
	for _, p := range k.Packages {
		size, err := s.blobs.size(p.SHA256)
		switch {
		case errors.Is(err, operator.ErrNotFound):
			return nil, refuse(operator.ErrState, op, "", "package "+p.Name+" ("+p.SHA256+") has not been uploaded", "upload it first; kernwave kernel add does")
		case err != nil:
			return nil, fmt.Errorf("look for package %s: %w", p.Name, err)
		case size != p.Size:
			return nil, refuse(operator.ErrInvalid, op, "", fmt.Sprintf("package %s has %d bytes, not %d", p.Name, size, p.Size), "check the packages")
		}
	}
	who, now := callerOf(ctx).account.Name, s.Now()
	k.AddedAt, k.AddedBy = now, who
	if err := s.Store.Update(ctx, func(tx store.Tx) error {
		have, err := tx.Kernel(k.ID)
		switch {
		case err == nil && sameKernel(have, k):
			k = have
			return nil
		case err == nil:
			return refuse(operator.ErrExists, op, "", fmt.Sprintf("there is a kernel %s already, with other content (added by %s)", k.ID, have.AddedBy), "give this one another name: kernwave kernel add --name NAME …")
		case !errors.Is(err, store.ErrNotFound):
			return err
		}
		if err := tx.AddKernel(k); err != nil {
			return err
		}
		_, err = tx.AppendEvent(store.Event{
			At: now, Who: who, Kind: "kernel.added", What: fmt.Sprintf("kernel %s (%s, %s) can be rolled", k.ID, k.Version, count(len(k.Packages), "package")),
		})
		return err
	}); err != nil {
		return nil, err
	}
	return connect.NewResponse(wire.KernelToProto(k)), nil
}

// ListKernels lists the kernels, and the approvals that were not withdrawn.
func (s kernelService) ListKernels(ctx context.Context, _ *connect.Request[kwv1.ListKernelsRequest]) (*connect.Response[kwv1.ListKernelsResponse], error) {
	res := &kwv1.ListKernelsResponse{}
	if err := s.Store.View(ctx, func(r store.Reader) error {
		kernels, err := r.Kernels()
		if err != nil {
			return err
		}
		approvals, err := r.Approvals("")
		res.Kernels, res.Approvals = list(kernels, wire.KernelToProto), list(approvals, wire.ApprovalToProto)
		return err
	}); err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func sameKernel(a, b fleet.Kernel) bool {
	return a.Checksum() == b.Checksum() && a.Version == b.Version && a.Family == b.Family && a.Arch == b.Arch && a.Flavour == b.Flavour &&
		slices.Equal(a.Packages, b.Packages)
}

// checkKernel reports every mistake at once.
func checkKernel(k fleet.Kernel, maxBlob int64) error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	word := func(what, v string, may *regexp.Regexp) {
		check(may.MatchString(v), "%s %q is not allowed", what, clip(v, 140))
	}
	word("id", string(k.ID), kernelWord)
	word("release", k.Release, kernelWord)
	word("version", k.Version, versionWord)
	word("family", k.Family, packageWord)
	word("architecture", k.Arch, packageWord)
	if k.Flavour != "" {
		word("flavour", k.Flavour, kernelWord)
	}
	check(len(k.Packages) > 0, "it has no packages")
	check(len(k.Packages) <= maxPackages, "it has %d packages, at most %d are allowed", len(k.Packages), maxPackages)
	seen := map[string]bool{}
	for i, p := range k.Packages[:min(len(k.Packages), maxPackages)] {
		word(fmt.Sprintf("package %d: name", i+1), p.Name, packageWord)
		word(fmt.Sprintf("package %d: version", i+1), p.Version, versionWord)
		word(fmt.Sprintf("package %d: architecture", i+1), p.Arch, packageWord)
		check(sha256Hex.MatchString(p.SHA256), "package %d: sha256 must be 64 lower-case hex digits", i+1)
		check(p.Size > 0 && p.Size <= maxBlob, "package %d: size %d; allowed are 1 to %d bytes", i+1, p.Size, maxBlob)
		check(!seen[p.Name] && !seen[p.SHA256], "package %d: %s is there twice", i+1, clip(p.Name, 140))
		seen[p.Name], seen[p.SHA256] = true, true
	}
	return errors.Join(errs...)
}

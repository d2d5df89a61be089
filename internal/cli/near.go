package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/pflag"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/internal/near"
)

// nearest gives the names that someone who typed s may have meant.
func nearest(s string, names []string) []string { return near.Names(s, names) }

func visitNames(names *[]string) func(*pflag.Flag) {
	return func(f *pflag.Flag) { *names = append(*names, f.Name) }
}

// nameLimit is how long a look-up of names may take that only makes a message or a completion better.
const nameLimit = 2 * time.Second

// didYouMean adds to a not-found error the names that exist. all lists them; what and list name the thing and the
// command that shows all.
func (a *app) didYouMean(ctx context.Context, err error, typed, list string, all func(context.Context) ([]string, error)) error {
	if connect.CodeOf(err) != connect.CodeNotFound {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, nameLimit)
	defer cancel()
	names, listErr := all(ctx)
	if listErr != nil {
		return err // the first error says more
	}
	meant := nearest(typed, names)
	if len(meant) == 0 {
		return &advised{err, `"` + list + `" shows those that exist`}
	}
	return &advised{err, "did you mean " + strings.Join(meant, " or ") + `? "` + list + `" shows all`}
}

func (a *app) nearHost(ctx context.Context, err error, typed string) error {
	return a.didYouMean(ctx, err, typed, "kernwave hosts", a.hostNames)
}

func (a *app) nearRollout(ctx context.Context, err error, typed string) error {
	return a.didYouMean(ctx, err, typed, "kernwave rollout list", a.rolloutNames)
}

func (a *app) nearKernel(ctx context.Context, err error, typed string) error {
	return a.didYouMean(ctx, err, typed, "kernwave kernel list", a.kernelNames)
}

func (a *app) hostNames(ctx context.Context) ([]string, error) {
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	res, err := call(ctx, a, c.fleet.ListHosts, &kwv1.ListHostsRequest{})
	return namesOf(res.GetHosts(), (*kwv1.Host).GetId), err
}

func (a *app) rolloutNames(ctx context.Context) ([]string, error) {
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	res, err := call(ctx, a, c.rollouts.ListRollouts, &kwv1.ListRolloutsRequest{})
	return namesOf(res.GetRollouts(), (*kwv1.Rollout).GetId), err
}

func (a *app) kernelNames(ctx context.Context) ([]string, error) {
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	res, err := call(ctx, a, c.kernels.ListKernels, &kwv1.ListKernelsRequest{})
	return namesOf(res.GetKernels(), (*kwv1.Kernel).GetId), err
}

func namesOf[T any](list []T, name func(T) string) []string {
	out := make([]string, 0, len(list))
	for _, v := range list {
		out = append(out, name(v))
	}
	return out
}

// typeNames are the host types that there are hosts of.
func (a *app) typeNames(ctx context.Context) ([]string, error) {
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	res, err := call(ctx, a, c.fleet.ListHosts, &kwv1.ListHostsRequest{})
	types := namesOf(res.GetHosts(), func(h *kwv1.Host) string { return h.GetType().GetId() })
	slices.Sort(types)
	return slices.Compact(types), err
}

func (a *app) incidentNames(ctx context.Context) ([]string, error) {
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	res, err := call(ctx, a, c.fleet.ListIncidents, &kwv1.ListIncidentsRequest{})
	return namesOf(res.GetIncidents(), (*kwv1.Incident).GetId), err
}

func (a *app) operatorNames(ctx context.Context) ([]string, error) {
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	res, err := call(ctx, a, c.fleet.ListOperators, &kwv1.ListOperatorsRequest{})
	return namesOf(res.GetOperators(), (*kwv1.Operator).GetName), err
}

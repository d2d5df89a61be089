package api

import (
	rpc "github.com/kernwave/kernwave/api/gen/kernwave/v1/kernwavev1connect"
	"github.com/kernwave/kernwave/internal/operator"
)

// who may call a procedure.
type who int

const (
	whoNobody   who = iota // the zero value: a procedure that is not in the table
	whoAnyone              // proves itself by what it sends
	whoHost                // a host, by its certificate
	whoOperator            // an operator, by a token, with at least the role
)

// procedure is what the API knows of one RPC before it reads the request.
type procedure struct {
	who  who
	role operator.Role
	op   string // what the caller tries, for errors: "list the hosts"
}

// procedures is the whole table of who may do what. What is not in it, nobody may.
var procedures = map[string]procedure{
	rpc.EnrolServiceEnrolProcedure:   {whoAnyone, "", "enrol"},
	rpc.EnrolServiceReenrolProcedure: {whoAnyone, "", "re-enrol"},

	rpc.AgentServiceCheckInProcedure:       {whoHost, "", "check in"},
	rpc.AgentServiceConfirmRebootProcedure: {whoHost, "", "ask whether to reboot"},
	rpc.AgentServiceRenewProcedure:         {whoHost, "", "renew the certificate"},

	rpc.FleetServiceListHostsProcedure:     {whoOperator, operator.RoleViewer, "list the hosts"},
	rpc.FleetServiceGetHostProcedure:       {whoOperator, operator.RoleViewer, "show the host"},
	rpc.FleetServiceWhyHostProcedure:       {whoOperator, operator.RoleViewer, "say why the host is not updated"},
	rpc.FleetServiceListBudgetsProcedure:   {whoOperator, operator.RoleViewer, "list the budgets"},
	rpc.FleetServiceListEventsProcedure:    {whoOperator, operator.RoleViewer, "list the events"},
	rpc.FleetServiceListIncidentsProcedure: {whoOperator, operator.RoleViewer, "list the incidents"},
	rpc.FleetServiceGetStatusProcedure:     {whoOperator, operator.RoleViewer, "show the control plane's status"},

	rpc.FleetServiceSetHostStatusProcedure: {whoOperator, operator.RoleOperator, "change the host's status"},
	rpc.FleetServiceSetBudgetProcedure:     {whoOperator, operator.RoleOperator, "set the budget"},
	rpc.FleetServiceStopProcedure:          {whoOperator, operator.RoleOperator, "stop everything"},
	rpc.FleetServiceLiftStopProcedure:      {whoOperator, operator.RoleOperator, "lift the stop"},

	rpc.FleetServiceUnfreezeHostProcedure: {whoOperator, operator.RoleOperator, "unfreeze the host"},
	rpc.FleetServiceGetCAProcedure:        {whoOperator, operator.RoleViewer, "show the authorities"},
	rpc.FleetServiceRotateCAProcedure:     {whoOperator, operator.RoleAdmin, "rotate the CA"},
	rpc.FleetServiceRetireCAProcedure:     {whoOperator, operator.RoleAdmin, "retire the CA"},

	rpc.FleetServiceRevokeHostProcedure:       {whoOperator, operator.RoleAdmin, "revoke the host"},
	rpc.FleetServiceCreateEnrolTokenProcedure: {whoOperator, operator.RoleAdmin, "create an enrolment token"},
	rpc.FleetServiceCreateOperatorProcedure:   {whoOperator, operator.RoleAdmin, "create the operator"},
	rpc.FleetServiceListOperatorsProcedure:    {whoOperator, operator.RoleAdmin, "list the operators"},
	rpc.FleetServiceDeleteOperatorProcedure:   {whoOperator, operator.RoleAdmin, "delete the operator"},

	rpc.KernelServiceAddKernelProcedure:   {whoOperator, operator.RoleOperator, "add the kernel"},
	rpc.KernelServiceListKernelsProcedure: {whoOperator, operator.RoleViewer, "list the kernels"},

	rpc.RolloutServicePlanRolloutProcedure:   {whoOperator, operator.RoleViewer, "plan the rollout"},
	rpc.RolloutServiceGetRolloutProcedure:    {whoOperator, operator.RoleViewer, "show the rollout"},
	rpc.RolloutServiceListRolloutsProcedure:  {whoOperator, operator.RoleViewer, "list the rollouts"},
	rpc.RolloutServiceStartRolloutProcedure:  {whoOperator, operator.RoleOperator, "start the rollout"},
	rpc.RolloutServiceChangeRolloutProcedure: {whoOperator, operator.RoleOperator, "change the rollout"},
}

package shard

import (
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/cloud/quota"
	"github.com/weirmq/weir/cloud/settings"
	"github.com/weirmq/weir/storage/commitlog/state"
)

// View is the machines of the catalogue that other nodes have, too: see
// commitlog.Mirror.
type View struct {
	Fleet    *fleet.Fleet
	Users    *auth.Auth
	Quotas   *quota.Quotas
	Settings *settings.Settings
}

// View returns the machines that other nodes have. There are none if Part is Data.
func (s *Shard) View() View {
	return View{s.Fleet, s.Users, s.Quotas, s.Settings}
}

// Machines lists the machines of the View.
func (v View) Machines() []state.Machine {
	if v.Users == nil {
		return nil
	}
	return []state.Machine{v.Users, v.Quotas, v.Settings, v.Fleet}
}

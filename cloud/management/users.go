package management

import (
	"net/http"
	"slices"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
)

// users returns the users, which can be changed. A request that may have changed them is
// answered when the other nodes know that.
func (r *request) users() (*auth.Auth, error) {
	if users := r.s.o.Access.OwnUsers(); users != nil {
		r.tells = r.Method != http.MethodGet && r.Method != http.MethodHead
		return users, nil
	}
	return nil, broker.ErrNotOwner
}

// tags returns the tags of a user: they follow from what the user may do.
func tags(users *auth.Auth, name string) []string {
	if users != nil && users.VhostRights(auth.Principal(name), "").Everything() {
		return []string{"administrator"}
	}
	return []string{"management"}
}

func whoami(r *request) (any, error) {
	if r.administers() {
		return object{"name": r.user, "tags": []string{"administrator"}}, nil
	}
	return object{"name": r.user, "tags": []string{"management"}}, nil
}

// userObjects lists the users by name, without what could prove who they are.
func userObjects(users *auth.Auth) []object {
	var all []object
	for _, u := range users.Users() {
		all = append(all, object{"name": u.Name, "tags": tags(users, u.Name), "limits": object{}})
	}
	return all
}

// administered returns the users if the client may administer them.
func (r *request) administered() (*auth.Auth, error) {
	if err := r.mustAdminister(); err != nil {
		return nil, err
	}
	return r.users()
}

func listUsers(r *request) (any, error) {
	users, err := r.administered()
	if err != nil {
		return nil, err
	}
	return list(r, userObjects(users))
}

func getUser(r *request) (any, error) {
	users, err := r.administered()
	if err != nil {
		return nil, err
	}
	for _, o := range userObjects(users) {
		if o["name"] == r.PathValue("user") {
			return o, nil
		}
	}
	return nil, errNotFound
}

// userBody is what creates a user, or changes the password of one.
type userBody struct {
	Name     string  `json:"name"` // in definitions
	Password *string `json:"password"`
	Hash     *string `json:"password_hash"`
}

func putUser(r *request) (any, error) {
	users, err := r.administered()
	if err != nil {
		return nil, err
	}
	body, err := decode[userBody](r)
	if err != nil {
		return nil, err
	}
	if body.Password == nil {
		return nil, badRequest("password is needed: a password_hash of RabbitMQ proves nothing here")
	}
	return r.setPassword(users, r.PathValue("user"), *body.Password)
}

// setPassword creates a user, or gives it another password.
func (r *request) setPassword(users *auth.Auth, name, password string) (any, error) {
	had := slices.ContainsFunc(users.Users(), func(u auth.User) bool { return u.Name == name })
	var all []auth.Credential
	for _, m := range auth.Mechanisms() {
		c, err := auth.NewCredential(m, password)
		if err != nil {
			return nil, badRequest("%v", err)
		}
		all = append(all, c)
	}
	if err := users.SetCredentials(r.Context(), name, all...); err != nil || had {
		return nil, err
	}
	return created{}, nil
}

func deleteUser(r *request) (any, error) {
	users, err := r.administered()
	if err != nil {
		return nil, err
	}
	return nil, users.RemoveUser(r.Context(), r.PathValue("user"))
}

// permissions lists the permissions of the user and in the vhost that the path names.
func permissions(r *request) (any, error) {
	users, err := r.administered()
	if err != nil {
		return nil, err
	}
	var all []object
	for _, p := range users.VhostPermissions(r.PathValue("user"), r.PathValue("vhost")) {
		all = append(all, permissionObject(&p))
	}
	return list(r, all)
}

func permissionObject(p *auth.VhostPermissions) object {
	return object{"user": p.User, "vhost": p.Vhost, "configure": p.Configure, "write": p.Write, "read": p.Read}
}

func getPermission(r *request) (any, error) {
	users, err := r.administered()
	if err != nil {
		return nil, err
	}
	all := users.VhostPermissions(r.PathValue("user"), r.PathValue("vhost"))
	if len(all) != 1 {
		return nil, errNotFound
	}
	return permissionObject(&all[0]), nil
}

// permissionBody is what sets permissions.
type permissionBody struct {
	User      string  `json:"user"`  // in definitions
	Vhost     string  `json:"vhost"` // in definitions
	Configure *string `json:"configure"`
	Write     *string `json:"write"`
	Read      *string `json:"read"`
}

func putPermission(r *request) (any, error) {
	users, err := r.administered()
	if err != nil {
		return nil, err
	}
	body, err := decode[permissionBody](r)
	if err != nil {
		return nil, err
	}
	body.User, body.Vhost = r.PathValue("user"), r.PathValue("vhost")
	had := len(users.VhostPermissions(body.User, body.Vhost)) > 0
	if err := r.setPermission(users, &body); err != nil || had {
		return nil, err
	}
	return created{}, nil
}

func (r *request) setPermission(users *auth.Auth, body *permissionBody) error {
	if body.Configure == nil || body.Write == nil || body.Read == nil {
		return badRequest("configure, write and read are needed")
	}
	has, err := r.hasVhost(body.Vhost)
	switch {
	case err != nil:
		return err
	case !has:
		return badRequest("vhost_or_user_not_found")
	}
	return users.SetVhostPermissions(r.Context(), auth.VhostPermissions{User: body.User, Vhost: body.Vhost,
		Configure: *body.Configure, Write: *body.Write, Read: *body.Read})
}

func deletePermission(r *request) (any, error) {
	users, err := r.administered()
	if err != nil {
		return nil, err
	}
	return nil, users.ClearVhostPermissions(r.Context(), r.PathValue("user"), r.PathValue("vhost"))
}

// topicPermissions lists those of the user and in the vhost that the path names.
func topicPermissions(r *request) (any, error) {
	users, err := r.administered()
	if err != nil {
		return nil, err
	}
	var all []object
	for _, p := range users.TopicPermissions(r.PathValue("user"), r.PathValue("vhost"), "") {
		all = append(all, topicPermissionObject(&p))
	}
	return list(r, all)
}

func topicPermissionObject(p *auth.TopicPermissions) object {
	return object{"user": p.User, "vhost": p.Vhost, "exchange": p.Exchange, "write": p.Write, "read": p.Read}
}

func putTopicPermission(r *request) (any, error) {
	users, err := r.administered()
	if err != nil {
		return nil, err
	}
	p, err := decode[auth.TopicPermissions](r)
	if err != nil {
		return nil, err
	}
	p.User, p.Vhost = r.PathValue("user"), r.PathValue("vhost")
	had := len(users.TopicPermissions(p.User, p.Vhost, p.Exchange)) > 0
	if err := users.SetTopicPermissions(r.Context(), p); err != nil || had {
		return nil, err
	}
	return created{}, nil
}

func deleteTopicPermissions(r *request) (any, error) {
	users, err := r.administered()
	if err != nil {
		return nil, err
	}
	return nil, users.ClearTopicPermissions(r.Context(), r.PathValue("user"), r.PathValue("vhost"), "")
}

//go:build weirtest

package cluster

// mutations break single rules of placement, so that a test can show that it notices.
// They are there in a build with the tag weirtest only.
type mutations struct {
	PullShards        bool // the node that should have a shard claims it, without waiting for its owner's offer
	SilenceFromAnswer bool // silence is measured from the last answer, even if the claim is newer
	Rankless          bool // all candidates wait equally long
	NoOpinion         bool // other members are not asked whether they have heard the owner
	NoWitness         bool // nor the bucket, whether its log grows
	NoPatience        bool // takeovers of a short while ago do not count
	MuteDenies        bool // a member that has not said anything yet does not have the shard
	OwnNameOnly       bool // any claim of this node's name is of a former life
	ClosedUnseen      bool // an owner that has ended in good order is waited for
	Roleless          bool // a node takes shards without having the roles for them
	TrustObject       bool // one unanswered question is enough to believe that an owner without a member object has ended
	CloseFirst        bool // an owner closes the log before its successor reads it
	ClaimUnseen       bool // an owner whose successor does not answer does not look whether it has claimed
	NeverTakes        bool // a successor that has claimed waits for an owner that is gone
	TrustRevoked      bool // a revoked node is a member like any other
}

func pullShards(m mutations) bool        { return m.PullShards }
func silenceFromAnswer(m mutations) bool { return m.SilenceFromAnswer }
func rankless(m mutations) bool          { return m.Rankless }
func noOpinion(m mutations) bool         { return m.NoOpinion }
func noWitness(m mutations) bool         { return m.NoWitness }
func noPatience(m mutations) bool        { return m.NoPatience }
func muteDenies(m mutations) bool        { return m.MuteDenies }
func ownNameOnly(m mutations) bool       { return m.OwnNameOnly }
func closedUnseen(m mutations) bool      { return m.ClosedUnseen }
func trustObject(m mutations) bool       { return m.TrustObject }
func roleless(m mutations) bool          { return m.Roleless }
func closeFirst(m mutations) bool        { return m.CloseFirst }
func claimUnseen(m mutations) bool       { return m.ClaimUnseen }
func neverTakes(m mutations) bool        { return m.NeverTakes }
func trustRevoked(m mutations) bool      { return m.TrustRevoked }

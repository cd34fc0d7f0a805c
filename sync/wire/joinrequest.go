package wire

// JoinRequest is the only frame that a gateway sends on weir-join/1. The gateway checks
// the cloud by the token's fingerprint before it sends the secret.
type JoinRequest struct {
	small
	Secret  [16]byte
	Gateway string
	CSR     []byte // PKCS #10, DER; its name is the gateway id
}

func (*JoinRequest) Type() Type { return TypeJoinRequest }

func (f *JoinRequest) encode(b []byte) []byte {
	b = append(b, f.Secret[:]...)
	b = putString(b, f.Gateway)
	return putBytes(b, f.CSR)
}

func (f *JoinRequest) decode(c *decoder) {
	copy(f.Secret[:], c.Take(uint64(len(f.Secret))))
	f.Gateway = c.str()
	f.CSR = c.bytes()
}

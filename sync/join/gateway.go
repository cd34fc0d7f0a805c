package join

import "fmt"

// CheckNewGateway checks an id that a gateway is about to get. It must pass
// CheckGateway and begin with a letter or digit. Gateways that joined before this rule
// keep their ids.
func CheckNewGateway(id string) error {
	if err := CheckGateway(id); err != nil {
		return err
	}
	if c := id[0]; c == '.' || c == '_' || c == '-' {
		return fmt.Errorf("%q: %w", id, ErrGatewayID)
	}
	return nil
}

// CheckGateway checks the syntax of a gateway id: 1 to 64 of a-z A-Z 0-9 . _ -
func CheckGateway(id string) error {
	if len(id) == 0 || len(id) > 64 {
		return fmt.Errorf("%d characters: %w", len(id), ErrGatewayID)
	}
	for _, c := range []byte(id) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return fmt.Errorf("%q: %w", id, ErrGatewayID)
		}
	}
	return nil
}

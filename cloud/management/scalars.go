package management

import "strconv"

// flag is a truth value. Clients send it as text, too.
type flag bool

// UnmarshalJSON reads true, false, and both as text.
func (f *flag) UnmarshalJSON(text []byte) error {
	word := string(text)
	if plain, err := strconv.Unquote(word); err == nil {
		word = plain
	}
	switch word {
	case "true":
		*f = true
	case "false", "null":
		*f = false
	default:
		return badRequest("not_boolean: %s", word)
	}
	return nil
}

// count is a number. Clients send it as text, too.
type count int

// UnmarshalJSON reads an integer, and one as text.
func (c *count) UnmarshalJSON(text []byte) error {
	word := string(text)
	if plain, err := strconv.Unquote(word); err == nil {
		word = plain
	}
	n, err := strconv.Atoi(word)
	if err != nil {
		return badRequest("not_integer: %s", word)
	}
	*c = count(n)
	return nil
}

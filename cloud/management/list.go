package management

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// object is one element of a list, or the answer about one thing.
type object = map[string]any

// Bounds of a page.
const (
	defaultPage = 100
	largestPage = 500
)

// list returns a list as the request's parameters want it: sorted, a page of it, only
// some members.
func list(r *request, all []object) (any, error) {
	if all == nil {
		all = []object{}
	}
	q := r.URL.Query()
	if by := q.Get("sort"); by != "" {
		slices.SortStableFunc(all, func(a, b object) int { return compare(member(a, by), member(b, by)) })
		if q.Get("sort_reverse") == "true" {
			slices.Reverse(all)
		}
	}
	if !q.Has("page") {
		return columns(all, q.Get("columns")), nil
	}
	page, err := number(q.Get("page"), 1)
	if err != nil {
		return nil, err
	}
	size := defaultPage
	if text := q.Get("page_size"); text != "" {
		if size, err = number(text, 1); err != nil {
			return nil, err
		}
	}
	if size > largestPage {
		return nil, badRequest("page_size %d is more than %d", size, largestPage)
	}
	total := len(all)
	if all, err = filter(all, q.Get("name"), q.Get("use_regex") == "true"); err != nil {
		return nil, err
	}
	filtered := len(all)
	first := min(page-1, filtered) * size // page-1 may be huge
	all = all[min(first, filtered):min(first+size, filtered)]
	return object{
		"total_count": total, "filtered_count": filtered, "item_count": len(all),
		"page": page, "page_size": size, "page_count": (filtered + size - 1) / size, "items": columns(all, q.Get("columns")),
	}, nil
}

// number reads a number that is at least least.
func number(text string, least int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < least {
		return 0, badRequest("%q is not a number of at least %d", text, least)
	}
	return n, nil
}

// filter returns the objects whose name has the text in it, or matches the expression.
func filter(all []object, text string, expression bool) ([]object, error) {
	if text == "" {
		return all, nil
	}
	has := func(name string) bool { return strings.Contains(strings.ToLower(name), strings.ToLower(text)) }
	if expression {
		x, err := regexp.Compile("(?i)" + text)
		if err != nil {
			return nil, badRequest("%v", err)
		}
		has = x.MatchString
	}
	return slices.DeleteFunc(all, func(o object) bool {
		name, _ := o["name"].(string)
		return !has(name)
	}), nil
}

// member returns what a path such as messages or owner.name leads to, nil if nothing.
func member(o object, path string) any {
	for {
		name, rest, more := strings.Cut(path, ".")
		if !more {
			return o[name]
		}
		inner, ok := o[name].(object)
		if !ok {
			return nil
		}
		o, path = inner, rest
	}
}

// compare orders numbers, texts and truth values. A missing value comes first.
func compare(a, b any) int {
	switch x := a.(type) {
	case string:
		if y, ok := b.(string); ok {
			return strings.Compare(x, y)
		}
	case int64:
		if y, ok := b.(int64); ok {
			return cmp.Compare(x, y)
		}
	case int:
		if y, ok := b.(int); ok {
			return cmp.Compare(x, y)
		}
	case float64:
		if y, ok := b.(float64); ok {
			return cmp.Compare(x, y)
		}
	}
	if isNumber(a) && isNumber(b) { // one is of another node
		return cmp.Compare(real(a), real(b))
	}
	if a == nil || b == nil {
		return cmp.Compare(presence(a), presence(b))
	}
	return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
}

func isNumber(x any) bool {
	switch x.(type) {
	case int, int64, uint64, float64:
		return true
	}
	return false
}

func presence(x any) int {
	if x == nil {
		return 0
	}
	return 1
}

// columns returns objects with the members that names lists, separated by commas; with all
// if names is empty.
func columns(all []object, names string) []object {
	if names == "" {
		return all
	}
	cut := make([]object, len(all))
	for i := range all {
		cut[i] = object{}
		for name := range strings.SplitSeq(names, ",") {
			if v := member(all[i], name); v != nil {
				put(cut[i], name, v)
			}
		}
	}
	return cut
}

// put sets what a path leads to.
func put(o object, path string, v any) {
	for {
		name, rest, more := strings.Cut(path, ".")
		if !more {
			o[name] = v
			return
		}
		inner, ok := o[name].(object)
		if !ok {
			inner = object{}
			o[name] = inner
		}
		o, path = inner, rest
	}
}

// nothing is the list of what there never is here, such as policies.
func nothing(r *request) (any, error) { return list(r, nil) }

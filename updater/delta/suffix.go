package delta

// suffixes returns the start of every suffix of text in the order of the suffixes, in linear time, by
// induced sorting (Nong, Zhang and Chan, "Two Efficient Algorithms for Linear Time Suffix Array
// Construction"). Letters are below letters. It needs about 9 bytes for each letter.
//
// A suffix is small (S) when it comes before the one that follows it, else large (L); a small one after a large
// one is a seam. The order of the seams gives that of all others, one scan up and one down.
func suffixes[T byte | int32](text []T, letters int) []int32 {
	n := len(text)
	order := make([]int32, n)
	if n <= 1 {
		return order
	}
	s := sorter[T]{text: text, order: order, small: make([]bool, n)}
	for i := n - 2; i >= 0; i-- {
		s.small[i] = text[i] < text[i+1] || text[i] == text[i+1] && s.small[i+1]
	}
	s.count(letters)
	var seams []int32
	for i := 1; i < n; i++ {
		if s.seam(int32(i)) {
			seams = append(seams, int32(i))
		}
	}
	s.induce(seams)
	if len(seams) > 1 {
		s.induce(s.sortSeams(seams))
	}
	return order
}

type sorter[T byte | int32] struct {
	text   []T
	order  []int32
	small  []bool
	starts []int32 // of each letter in order: its large suffixes come first
	splits []int32 // where its small ones begin
	next   []int32
}

func (s *sorter[T]) seam(i int32) bool { return i > 0 && s.small[i] && !s.small[i-1] }

func (s *sorter[T]) count(letters int) {
	s.starts, s.splits, s.next = make([]int32, letters+1), make([]int32, letters+1), make([]int32, letters+1)
	for i, c := range s.text {
		s.starts[c]++
		if !s.small[i] {
			s.splits[c]++
		}
	}
	sum := int32(0)
	for c := range s.starts {
		size := s.starts[c]
		s.starts[c] = sum
		s.splits[c] += sum
		sum += size
	}
}

// induce sorts all suffixes, given seams in an order that is right as far as seams are compared.
func (s *sorter[T]) induce(seams []int32) {
	for i := range s.order {
		s.order[i] = -1
	}
	copy(s.next, s.splits)
	for _, i := range seams {
		s.put(i)
	}
	copy(s.next, s.starts)
	s.put(int32(len(s.text) - 1))
	for k := range s.order {
		if i := s.order[k]; i > 0 && !s.small[i-1] {
			s.put(i - 1)
		}
	}
	copy(s.next, s.starts[1:]) // the ends
	for k := len(s.order) - 1; k >= 0; k-- {
		if i := s.order[k]; i > 0 && s.small[i-1] {
			c := s.text[i-1]
			s.next[c]--
			s.order[s.next[c]] = i - 1
		}
	}
}

func (s *sorter[T]) put(i int32) {
	c := s.text[i]
	s.order[s.next[c]] = i
	s.next[c]++
}

// sortSeams orders the seams by the whole suffixes that begin there: those of equal pieces, up to the next
// seam, get equal names, and the text of the names is sorted.
func (s *sorter[T]) sortSeams(seams []int32) []int32 {
	names := make([]int32, len(s.text)/2+1) // by half the position: two seams are never neighbours
	ends := make([]int32, len(s.text)/2+1)
	for k, i := range seams {
		ends[i/2] = int32(len(s.text))
		if k+1 < len(seams) {
			ends[i/2] = seams[k+1]
		}
	}
	name, last := int32(-1), int32(-1)
	for _, i := range s.order {
		if !s.seam(i) {
			continue
		}
		if last < 0 || !s.samePiece(last, i, ends) {
			name++
		}
		names[i/2], last = name, i
	}
	text := make([]int32, len(seams))
	for k, i := range seams {
		text[k] = names[i/2]
	}
	names, ends = nil, nil
	sorted := suffixes(text, int(name)+1)
	for k, i := range sorted {
		sorted[k] = seams[i]
	}
	return sorted
}

// samePiece compares two pieces, each with the letter of the seam that ends it.
func (s *sorter[T]) samePiece(a, b int32, ends []int32) bool {
	n := ends[a/2] - a
	if ends[b/2]-b != n {
		return false
	}
	for k := int32(0); k <= n; k++ {
		if int(max(a, b)+k) >= len(s.text) || s.text[a+k] != s.text[b+k] {
			return false
		}
	}
	return true
}

package delta

import (
	"cmp"
	"slices"
)

const (
	groupSymbols = 50 // are coded by one table
	longestCode  = 17
	fittings     = 4 // of the tables to the groups; more gain next to nothing
)

// coded writes symbols below letters with two to six code tables, of which each group of symbols takes the one that
// fits it best. Tables and choices are fitted to each other as the classic tool does.
func (w *bitWriter) coded(symbols []uint16, letters int) {
	tables := firstTables(symbols, letters)
	choices := make([]int, (len(symbols)+groupSymbols-1)/groupSymbols)
	for range fittings {
		tables = fit(tables, choices, symbols, letters)
	}
	w.put(uint64(len(tables)), 3)
	w.put(uint64(len(choices)), 15)
	w.choices(choices)
	var codes [][]uint32
	for _, lengths := range tables {
		w.lengths(lengths)
		codes = append(codes, codesOf(lengths))
	}
	for i, s := range symbols {
		t := choices[i/groupSymbols]
		w.put(uint64(codes[t][s]), uint(tables[t][s]))
	}
}

// firstTables gives each table a range of symbols that occur about as often as those of the others.
func firstTables(symbols []uint16, letters int) [][]byte {
	n := 6
	for i, below := range []int{200, 600, 1200, 2400} {
		if len(symbols) < below {
			n = 2 + i
			break
		}
	}
	counts := make([]int, letters)
	for _, s := range symbols {
		counts[s]++
	}
	tables := make([][]byte, n)
	from, left := 0, len(symbols)
	for t := range tables {
		to, sum := from, 0
		for share := left / (n - t); to < letters && sum < share; to++ {
			sum += counts[to]
		}
		left -= sum
		tables[t] = make([]byte, letters)
		for s := range letters {
			if s < from || s >= to {
				tables[t][s] = 15 // dear, where the others are free
			}
		}
		from = to
	}
	return tables
}

// fit chooses the cheapest table for each group, and returns the best tables for these choices.
func fit(tables [][]byte, choices []int, symbols []uint16, letters int) [][]byte {
	counts := make([][]int, len(tables))
	for t := range counts {
		counts[t] = make([]int, letters)
	}
	for g := range choices {
		group := symbols[g*groupSymbols : min(len(symbols), (g+1)*groupSymbols)]
		best := -1
		for t, lengths := range tables {
			cost := 0
			for _, s := range group {
				cost += int(lengths[s])
			}
			if best < 0 || cost < best {
				best, choices[g] = cost, t
			}
		}
		for _, s := range group {
			counts[choices[g]][s]++
		}
	}
	fitted := make([][]byte, len(tables))
	for t := range fitted {
		fitted[t] = codeLengths(counts[t])
	}
	return fitted
}

// codeLengths returns Huffman's code lengths. Every symbol gets a code, and where one would be too long the counts
// are evened out.
func codeLengths(counts []int) []byte {
	weights := make([]int, len(counts))
	for s, n := range counts {
		weights[s] = max(n, 1)
	}
	for {
		lengths := huffman(weights)
		if slices.Max(lengths) <= longestCode {
			return lengths
		}
		for s := range weights {
			weights[s] = weights[s]/2 + 1
		}
	}
}

// huffman joins the two lightest trees until one is left. The joined ones come out in the order of their weight, so
// that the lightest is always at the head of one of two queues.
func huffman(weights []int) []byte {
	type tree struct{ weight, up int }
	n := len(weights)
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(weights[a], weights[b]) })
	trees := make([]tree, n, 2*n)
	for i, s := range order {
		trees[i].weight = weights[s]
	}
	leaf, joined := 0, n
	lightest := func() int {
		if joined == len(trees) || leaf < n && trees[leaf].weight <= trees[joined].weight {
			leaf++
			return leaf - 1
		}
		joined++
		return joined - 1
	}
	for len(trees) < 2*n-1 {
		a, b := lightest(), lightest()
		trees[a].up, trees[b].up = len(trees), len(trees)
		trees = append(trees, tree{weight: trees[a].weight + trees[b].weight})
	}
	depth := make([]byte, len(trees))
	lengths := make([]byte, n)
	for i := len(trees) - 2; i >= 0; i-- {
		if depth[i] = depth[trees[i].up] + 1; i < n {
			lengths[order[i]] = depth[i]
		}
	}
	return lengths
}

// codesOf gives the codes of these lengths, the short ones first, of one length by symbol.
func codesOf(lengths []byte) []uint32 {
	codes := make([]uint32, len(lengths))
	code := uint32(0)
	for n := byte(1); n <= longestCode; n++ {
		for s, l := range lengths {
			if l == n {
				codes[s] = code
				code++
			}
		}
		code <<= 1
	}
	return codes
}

// choices writes the table of each group by its place in a list of which the last one used is the front.
func (w *bitWriter) choices(choices []int) {
	front := []int{0, 1, 2, 3, 4, 5}
	for _, t := range choices {
		at := slices.Index(front, t)
		copy(front[1:at+1], front[:at])
		front[0] = t
		w.put(1<<(at+1)-2, uint(at+1))
	}
}

// lengths writes the first length and then the way from each to the next in steps of one.
func (w *bitWriter) lengths(lengths []byte) {
	now := lengths[0]
	w.put(uint64(now), 5)
	for _, l := range lengths {
		for ; now < l; now++ {
			w.put(2, 2)
		}
		for ; now > l; now-- {
			w.put(3, 2)
		}
		w.put(0, 1)
	}
}

package main

import (
	"math/rand/v2"
	"slices"
)

// quantile returns the value below which the share q of all lies, interpolated; 0 for nothing.
func quantile(all []float64, q float64) float64 {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

func median(all []float64) float64 { return quantile(all, 0.5) }

// resamples of a bootstrap; more do not move the third digit.
const resamples = 10_000

// interval is a 95 % interval of the median by the percentile bootstrap, the same for the same values.
func interval(all []float64) (low, high float64) {
	rng := rand.New(rand.NewPCG(1, 2))
	medians := make([]float64, resamples)
	drawn := make([]float64, len(all))
	for i := range medians {
		for j := range drawn {
			drawn[j] = all[rng.IntN(len(all))]
		}
		medians[i] = median(drawn)
	}
	return quantile(medians, 0.025), quantile(medians, 0.975)
}

// Compare measures this module against others at the same work: in interleaved
// rounds, by the CPU time of the process, as ratios within each round, so that
// a machine whose speed drifts says the same as one whose does not.
//
//	cd internal/interop && go run ./compare
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
)

func main() {
	rounds := flag.Int("rounds", 25, "interleaved rounds")
	flag.Parse()
	if flag.NArg() > 0 || *rounds < 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*rounds); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func run(rounds int) error {
	for _, suite := range []func() (*suite, error){verifyReal, verifyCached, parseEnvelope, openEnvelope, decryptKMS} {
		s, err := suite()
		if err != nil {
			return err
		}
		if err := s.run(rounds); err != nil {
			return err
		}
	}
	return nil
}

// suite is several contestants at one task; the first is the measure.
type suite struct {
	title       string
	contestants []contestant
	// more, if any, measures and prints what the table cannot show.
	more func() error
}

type contestant struct {
	name string
	// setUp, if any, runs before each batch and is not measured.
	setUp func() error
	// batch does the work some times over and says how often.
	batch func() (operations int, err error)
}

// run prints a table: the ratio of CPU time to the first contestant's, its
// least and its median over the rounds; the median of the difference to it; and
// the medians of CPU time, bytes and allocations for each operation.
func (s *suite) run(rounds int) error {
	ratios := make([][]float64, len(s.contestants))
	differences := make([][]float64, len(s.contestants))
	costs := make([][]cost, len(s.contestants))
	for round := range rounds + 1 {
		var base float64
		for i, c := range s.contestants {
			m, err := measure(c)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", s.title, c.name, err)
			}
			if i == 0 {
				base = m.cpu
			}
			if round == 0 {
				continue // to warm up
			}
			ratios[i] = append(ratios[i], m.cpu/base)
			differences[i] = append(differences[i], m.cpu-base)
			costs[i] = append(costs[i], m)
		}
	}
	fmt.Println(s.title)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "contestant\tratio, min\tratio, median\tµs more\tCPU µs/op\tB/op\tallocs/op\t")
	for i, c := range s.contestants {
		m := median(costs[i])
		fmt.Fprintf(w, "%s\t%.3f\t%.3f\t%+.1f\t%.1f\t%.0f\t%.0f\t\n", c.name,
			slices.Min(ratios[i]), middle(ratios[i]), middle(differences[i])*1e6, m.cpu*1e6, m.bytes, m.allocs)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if s.more != nil {
		if err := s.more(); err != nil {
			return err
		}
	}
	fmt.Println()
	return nil
}

// pairwise compares single calls, one after the other, so that a difference shows
// which is small beside what both have in common and how much that drifts. It
// prints the median.
func pairwise(what string, base, other func() error) error {
	const pairs = 3000
	var differences []float64
	for i := range pairs + pairs/10 {
		var cost [2]float64
		for k := range cost {
			which, call := k, base
			if i%2 == 1 {
				which = 1 - k // now the other way round
			}
			if which == 1 {
				call = other
			}
			start := cpuTime()
			if err := call(); err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			cost[which] = cpuTime() - start
		}
		if i >= pairs/10 { // warm by now
			differences = append(differences, cost[1]-cost[0])
		}
	}
	fmt.Printf("%s: %+.1f µs, median of %d\n", what, middle(differences)*1e6, pairs)
	return nil
}

func median(costs []cost) cost {
	pick := func(f func(cost) float64) float64 {
		var values []float64
		for _, c := range costs {
			values = append(values, f(c))
		}
		return middle(values)
	}
	return cost{
		cpu:    pick(func(c cost) float64 { return c.cpu }),
		bytes:  pick(func(c cost) float64 { return c.bytes }),
		allocs: pick(func(c cost) float64 { return c.allocs }),
	}
}

func middle(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

package vectors

import (
	"maps"
	"slices"

	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// field is one entry of a payload, its value encoded.
type field struct {
	name  string
	value []byte
}

// fields is a payload, in order. Its methods return changed copies.
type fields []field

// fieldsOf takes a document apart as NSMs put it together.
func fieldsOf(d *nsmtest.Document) fields {
	return fields{
		{"module_id", cborText(d.ModuleID)},
		{"digest", cborText(d.Digest)},
		{"timestamp", cborUint(d.TimestampMillis)},
		{"pcrs", pcrMap(d.PCRs)},
		{"certificate", cborBytes(d.Certificate)},
		{"cabundle", bundle(d.CABundle)},
		{"public_key", bytesOrNull(d.PublicKey)},
		{"user_data", bytesOrNull(d.UserData)},
		{"nonce", bytesOrNull(d.Nonce)},
	}
}

func pcrMap(pcrs map[int][]byte) []byte {
	var pairs [][]byte
	for _, index := range slices.Sorted(maps.Keys(pcrs)) {
		pairs = append(pairs, cborUint(uint64(index)), cborBytes(pcrs[index]))
	}
	return cborMap(pairs...)
}

func bundle(certificates [][]byte) []byte {
	var items [][]byte
	for _, der := range certificates {
		items = append(items, cborBytes(der))
	}
	return cborArray(items...)
}

func (f fields) get(name string) []byte {
	for _, x := range f {
		if x.name == name {
			return x.value
		}
	}
	return nil
}

func (f fields) set(name string, value []byte) fields {
	g := slices.Clone(f)
	for i := range g {
		if g[i].name == name {
			g[i].value = value
		}
	}
	return g
}

func (f fields) drop(names ...string) fields {
	return slices.DeleteFunc(slices.Clone(f), func(x field) bool { return slices.Contains(names, x.name) })
}

func (f fields) add(name string, value []byte) fields {
	return append(slices.Clone(f), field{name, value})
}

// rename keeps a field's place and value.
func (f fields) rename(from, to string) fields {
	g := slices.Clone(f)
	for i := range g {
		if g[i].name == from {
			g[i].name = to
		}
	}
	return g
}

func (f fields) entries() []byte {
	var b []byte
	for _, x := range f {
		b = append(append(b, cborText(x.name)...), x.value...)
	}
	return b
}

// encode writes the map with an indefinite length, as NSMs do since 2025.
func (f fields) encode() []byte { return join(openMap, f.entries(), cborBreak) }

// encodeDefinite writes the map as NSMs did before.
func (f fields) encodeDefinite() []byte {
	return join(head(majorMap, uint64(len(f))), f.entries())
}

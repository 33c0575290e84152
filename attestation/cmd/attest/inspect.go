package main

import "github.com/keyvouch/keyvouch/attestation"

const (
	unverified = "UNVERIFIED"
	warning    = ": nothing here is checked; anyone can make a document that says this\n"
)

// inspected is the JSON of inspect.
type inspected struct {
	Verified bool       `json:"verified"` // false
	Form     string     `json:"form"`
	Size     int        `json:"size"`
	Document *described `json:"document"`
}

func (p *program) inspect(args []string) error {
	set := flagSet("inspect")
	asJSON := set.Bool("json", false, "print JSON")
	if err := p.parse(set, "[--json] FILE\n\nShows what a document says, and verifies nothing.", args, 1); err != nil {
		return err
	}
	file := set.Arg(0)
	in, err := p.document(file)
	if err != nil {
		return p.reject(file, "no attestation document", err, *asJSON)
	}
	u, err := attestation.ParseUnverified(in.raw)
	if err != nil {
		return p.reject(file, "no attestation document", err, *asJSON)
	}
	d := describe(&u.Claims, append(u.CABundle, u.Certificate))
	if *asJSON {
		return p.writeJSON(inspected{Form: in.form, Size: len(in.raw), Document: d})
	}
	var t text
	t.WriteString(paint(p.stdout, red, unverified) + warning)
	t.heading("Input")
	t.line("form", "%s, %d bytes", in.form, len(in.raw))
	d.write(&t)
	t.WriteString("\n" + paint(p.stdout, red, unverified) + warning)
	return p.writeText(&t)
}

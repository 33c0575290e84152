package main

import (
	"os"
	"strings"
)

// secretFlags are those whose values are secrets, by all their names.
var secretFlags = map[string]bool{
	"aws-secret-access-key": true, "s": true,
	"aws-session-token": true, "t": true,
}

// learnSecrets learns, before anything can be said, what is never to be said. A
// secret may be in a wrong place too, where it is an unlikely region or file.
func (p *program) learnSecrets(args []string) {
	p.keepSecret(os.Getenv("AWS_SECRET_ACCESS_KEY"), os.Getenv("AWS_SESSION_TOKEN"))
	for i, arg := range args {
		name, value, given := strings.Cut(arg, "=")
		flag := strings.TrimPrefix(strings.TrimPrefix(name, "-"), "-")
		if flag == name || !secretFlags[flag] {
			continue
		}
		if !given && i+1 < len(args) {
			value = args[i+1]
		}
		p.keepSecret(value)
	}
}

func (p *program) keepSecret(secrets ...string) {
	for _, s := range secrets {
		if s != "" {
			p.secrets = append(p.secrets, lower(s))
		}
	}
}

// withoutSecrets hides secrets, and pieces of them. Some services repeat a
// request in a message about its signature, session token and all. Capitals and
// small letters are the same here: host names lose theirs.
func (p *program) withoutSecrets(text string) string {
	small := lower(text)
	secret := make([]bool, len(text))
	for _, s := range p.secrets {
		size := min(piece, len(s))
		for i := 0; i+size <= len(text); i++ {
			if strings.Contains(s, small[i:i+size]) {
				for j := i; j < i+size; j++ {
					secret[j] = true
				}
			}
		}
	}
	var b strings.Builder
	for i := range secret {
		switch {
		case !secret[i]:
			b.WriteByte(text[i])
		case i == 0 || !secret[i-1]:
			b.WriteString("(secret)")
		}
	}
	return b.String()
}

// lower leaves all but ASCII as it is, and so every byte in its place.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

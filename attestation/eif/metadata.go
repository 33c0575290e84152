package eif

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/keyvouch/keyvouch/internal/errtext"
)

// Metadata is a builder's description of an image. Nothing measures it, and anyone can
// change it.
type Metadata struct {
	// ImageName and ImageVersion name the image, by default after the Docker
	// image or the kernel.
	ImageName    string
	ImageVersion string
	// Build says when and with what the image was built.
	Build BuildMetadata `json:"BuildMetadata"`
	// DockerInfo is a JSON object as docker image inspect gives it; empty for
	// none.
	DockerInfo json.RawMessage
	// CustomMetadata is a JSON object of the user's own; empty for none.
	CustomMetadata json.RawMessage
}

// BuildMetadata says when, with what and of what an image was built. All of it is
// free text; nitro-cli writes the time in RFC 3339.
type BuildMetadata struct {
	BuildTime        string
	BuildTool        string
	BuildToolVersion string
	OperatingSystem  string
	KernelVersion    string
}

// encode writes the members in the order of AWS's builder.
func (m Metadata) encode() ([]byte, error) {
	for _, field := range []struct {
		name  string
		value *json.RawMessage
	}{{"DockerInfo", &m.DockerInfo}, {"CustomMetadata", &m.CustomMetadata}} {
		if len(*field.value) == 0 {
			*field.value = nil // which becomes null
		} else if !json.Valid(*field.value) {
			return nil, fmt.Errorf("%s is not one JSON value", field.name) // Marshal's error would not say which
		}
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	// What cannot be read again is not written: an object that is no object, or
	// text that is not UTF-8, in which Marshal would put other characters.
	again, err := parseMetadata(text)
	if err != nil {
		return nil, err
	}
	if again.ImageName != m.ImageName || again.ImageVersion != m.ImageVersion || again.Build != m.Build {
		return nil, errors.New("is not all UTF-8")
	}
	return text, nil
}

// parseMetadata reads a metadata section. It goes member by member, since
// encoding/json would fold the case of names and let the last of several win.
func parseMetadata(text []byte) (*Metadata, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("is not UTF-8")
	}
	all, err := members(text)
	if err != nil {
		return nil, err
	}
	build, err := members(all["BuildMetadata"])
	if err != nil {
		return nil, fmt.Errorf("BuildMetadata %w", err)
	}
	var m Metadata
	for _, field := range []struct {
		in   map[string]json.RawMessage
		name string
		to   *string
	}{
		{all, "ImageName", &m.ImageName},
		{all, "ImageVersion", &m.ImageVersion},
		{build, "BuildTime", &m.Build.BuildTime},
		{build, "BuildTool", &m.Build.BuildTool},
		{build, "BuildToolVersion", &m.Build.BuildToolVersion},
		{build, "OperatingSystem", &m.Build.OperatingSystem},
		{build, "KernelVersion", &m.Build.KernelVersion},
	} {
		value := bytes.TrimSpace(field.in[field.name])
		if len(value) == 0 || value[0] != '"' {
			return nil, fmt.Errorf("%s is missing or no string", field.name)
		}
		if err := json.Unmarshal(value, field.to); err != nil {
			return nil, fmt.Errorf("%s: %w", field.name, err)
		}
	}
	if _, ok := all["DockerInfo"]; !ok {
		return nil, errors.New("DockerInfo is missing")
	}
	for _, field := range []struct {
		name string
		to   *json.RawMessage
	}{{"DockerInfo", &m.DockerInfo}, {"CustomMetadata", &m.CustomMetadata}} {
		value := bytes.TrimSpace(all[field.name])
		if len(value) > 0 && value[0] != '{' && string(value) != "null" {
			return nil, fmt.Errorf("%s is neither an object nor null", field.name)
		}
		if string(value) != "null" {
			*field.to = bytes.Clone(value)
		}
	}
	return &m, nil
}

// members splits a JSON object, in which each name must stand once.
func members(text []byte) (map[string]json.RawMessage, error) {
	if text == nil {
		return nil, errors.New("is missing")
	}
	if !json.Valid(text) {
		return nil, errors.New("is not one JSON value")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, errors.New("is no JSON object")
	}
	found := map[string]json.RawMessage{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		name := token.(string)
		if len(found) == maxMembers {
			return nil, fmt.Errorf("has more than %d members", maxMembers)
		}
		if _, twice := found[name]; twice {
			return nil, fmt.Errorf("has the member %s twice", errtext.Quote(name))
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		found[name] = value
	}
	return found, nil
}

package self

import "os"

// point writes down what is started, as the service's ImagePath does; there is no link on Windows.
func point(name, target string) error { return os.WriteFile(name+".path", []byte(target), 0o600) }

func pointed(name string) (string, error) {
	target, err := os.ReadFile(name + ".path")
	return string(target), err
}

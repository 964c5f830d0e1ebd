//go:build !windows

package payload

func ignoreLogoff() {}

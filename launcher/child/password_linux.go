package child

import "errors"

func needsPassword(string) bool { return false }

func allowLogon(Password) (bool, error) { return false, errors.ErrUnsupported }

func keepPassword(Password, []byte) (string, bool, error) { return "", false, errors.ErrUnsupported }

func checkPassword(Password) (string, error) { return "", errors.ErrUnsupported }

func forgetPassword(Password) (string, error) { return "", nil }

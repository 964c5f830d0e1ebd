package host

func checkFile(string) error { return nil }

func letIn(string, string) error { return nil }

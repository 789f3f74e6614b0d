package logging

// checkLogger
func checkLogger(spec string) error { return nil }
